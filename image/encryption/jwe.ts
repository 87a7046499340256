/**
 * JSON Web Encryption (RFC 7516) as far as ocicrypt writes it: general or flattened JSON, keys wrapped by RSA-OAEP or
 * ECDH-ES with AES key wrap (RFC 7518, section 4), content by AES-GCM.
 */

import {
  constants,
  createDecipheriv,
  createHash,
  createPublicKey,
  diffieHellman,
  type KeyObject,
  privateDecrypt,
} from 'node:crypto'
import * as z from 'zod'

const base64url = z
  .string()
  .max(65_536)
  .regex(/^[A-Za-z0-9_-]*$/)

const headerFields = z.looseObject({
  alg: z.string().optional(),
  enc: z.string().optional(),
  epk: z.looseObject({ kty: z.literal('EC'), crv: z.string(), x: base64url, y: base64url }).optional(),
  apu: base64url.optional(),
  apv: base64url.optional(),
  zip: z.never().optional(),
  crit: z.never().optional(),
})

const jweFields = z.object({
  protected: base64url.default(''),
  unprotected: headerFields.default({}),
  header: headerFields.default({}),
  encrypted_key: base64url.optional(),
  recipients: z
    .array(z.object({ header: headerFields.default({}), encrypted_key: base64url.default('') }))
    .max(100)
    .optional(),
  iv: base64url,
  ciphertext: base64url,
  tag: base64url,
})

type Header = z.infer<typeof headerFields>

const decode = (text: string): Buffer => Buffer.from(text, 'base64url')

/** The content, by the first of the keys that opens it for one of its recipients; nothing when none does. */
export const openJwe = (json: string, keys: readonly KeyObject[]): Buffer | undefined => {
  const jwe = jweFields.parse(JSON.parse(json))
  const common = {
    ...jwe.unprotected,
    ...headerFields.parse(JSON.parse(decode(jwe.protected).toString('utf8') || '{}')),
  }
  const recipients = jwe.recipients ?? [{ header: jwe.header, encrypted_key: jwe.encrypted_key ?? '' }]
  for (const recipient of recipients) {
    const header = { ...recipient.header, ...common }
    for (const key of keys) {
      const content = attempt(() => openContent(jwe, header, unwrap(header, decode(recipient.encrypted_key), key)))
      if (content !== undefined) return content
    }
  }
  return undefined
}

const attempt = <T>(open: () => T | undefined): T | undefined => {
  try {
    return open()
  } catch {
    // Of another recipient, or forged: which of both is nobody's business.
    return undefined
  }
}

const unwrap = (header: Header, wrapped: Buffer, key: KeyObject): Buffer | undefined => {
  const { alg = '' } = header
  const oaep = ({ 'RSA-OAEP': 'sha1', 'RSA-OAEP-256': 'sha256' } as Record<string, string>)[alg]
  if (oaep !== undefined && key.asymmetricKeyType === 'rsa') {
    return privateDecrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: oaep }, wrapped)
  }
  const bits = Number(/^ECDH-ES\+A(128|192|256)KW$/.exec(alg)?.[1])
  if (!Number.isNaN(bits) && key.asymmetricKeyType === 'ec' && header.epk) {
    return unwrapAes(wrapped, agree(header, alg, bits, key))
  }
  return undefined
}

/** RFC 7518, section 4.6: one round of the Concat KDF. */
const agree = ({ epk, apu = '', apv = '' }: Header, alg: string, bits: number, privateKey: KeyObject): Buffer => {
  if (epk === undefined) throw new Error('no ephemeral key')
  const publicKey = createPublicKey({ key: { kty: 'EC', crv: epk.crv, x: epk.x, y: epk.y }, format: 'jwk' })
  const secret = diffieHellman({ privateKey, publicKey })
  const info = [Buffer.from(alg), decode(apu), decode(apv)].flatMap((part) => [number32(part.length), part])
  const hash = createHash('sha256').update(number32(1)).update(secret)
  return hash
    .update(Buffer.concat([...info, number32(bits)]))
    .digest()
    .subarray(0, bits / 8)
}

const number32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** RFC 3394. */
const unwrapAes = (wrapped: Buffer, key: Buffer): Buffer => {
  const decipher = createDecipheriv(`id-aes${key.length * 8}-wrap`, key, Buffer.alloc(8, 0xa6))
  return Buffer.concat([decipher.update(wrapped), decipher.final()])
}

type Sealed = Pick<z.infer<typeof jweFields>, 'protected' | 'iv' | 'ciphertext' | 'tag'>

const openContent = (sealed: Sealed, { enc = '' }: Header, key: Buffer | undefined): Buffer | undefined => {
  const bits = Number(/^A(128|192|256)GCM$/.exec(enc)?.[1])
  const tag = decode(sealed.tag)
  if (key === undefined || key.length * 8 !== bits) return undefined
  const algorithm = `aes-${bits}-gcm` as 'aes-256-gcm'
  const decipher = createDecipheriv(algorithm, key, decode(sealed.iv), { authTagLength: 16 })
  decipher.setAAD(Buffer.from(sealed.protected, 'latin1'))
  decipher.setAuthTag(tag)
  return Buffer.concat([decipher.update(decode(sealed.ciphertext)), decipher.final()])
}
