/** Encrypts layers as ocicrypt does. For tests. */

import {
  constants,
  createCipheriv,
  createHash,
  createHmac,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
  publicEncrypt,
  randomBytes,
} from 'node:crypto'
import { digestOf } from '#storage/digest.ts'
import { type BuiltImage, type BuiltLayer, buildImage } from './image-builder.ts'

const b64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64')
const url = (bytes: Uint8Array | string): string => Buffer.from(bytes).toString('base64url')

export type Algorithm = 'RSA-OAEP' | 'RSA-OAEP-256' | 'ECDH-ES+A128KW' | 'ECDH-ES+A192KW' | 'ECDH-ES+A256KW'

export interface Recipient {
  readonly key: KeyObject
  readonly alg: Algorithm
}

/** A message for all of them, in the general or, for one, the flattened form. */
export const sealJwe = (content: Buffer, recipients: readonly Recipient[]): string => {
  const cek = randomBytes(32)
  const wrapped = recipients.map((recipient) => wrapKey(cek, recipient))
  const [only] = wrapped
  const isFlat = wrapped.length === 1 && only !== undefined
  const protectedHeader = url(JSON.stringify({ enc: 'A256GCM', ...(isFlat && only.header) }))
  const iv = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', cek, iv)
  cipher.setAAD(Buffer.from(protectedHeader))
  const ciphertext = Buffer.concat([cipher.update(content), cipher.final()])
  const sealed = { protected: protectedHeader, iv: url(iv), ciphertext: url(ciphertext), tag: url(cipher.getAuthTag()) }
  const keys = isFlat ? { encrypted_key: only.encrypted_key } : { recipients: wrapped }
  return JSON.stringify({ ...sealed, ...keys })
}

const wrapKey = (cek: Buffer, { key, alg }: Recipient): { header: object; encrypted_key: string } => {
  if (alg === 'RSA-OAEP' || alg === 'RSA-OAEP-256') {
    const oaepHash = alg === 'RSA-OAEP' ? 'sha1' : 'sha256'
    const wrapped = publicEncrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash }, cek)
    return { header: { alg }, encrypted_key: url(wrapped) }
  }
  const bits = Number(/\d{3}/.exec(alg)?.[0])
  const namedCurve = key.asymmetricKeyDetails?.namedCurve ?? 'P-256'
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve })
  const secret = diffieHellman({ privateKey, publicKey: key })
  const number = (value: number): Buffer => Buffer.from([value >>> 24, value >>> 16, value >>> 8, value])
  const info = Buffer.concat([number(alg.length), Buffer.from(alg), number(0), number(0), number(bits)])
  const kek = createHash('sha256')
    .update(number(1))
    .update(secret)
    .update(info)
    .digest()
    .subarray(0, bits / 8)
  const cipher = createCipheriv(`id-aes${bits}-wrap`, kek, Buffer.alloc(8, 0xa6))
  const wrapped = Buffer.concat([cipher.update(cek), cipher.final()])
  return { header: { alg, epk: publicKey.export({ format: 'jwk' }) }, encrypted_key: url(wrapped) }
}

export interface EncryptedLayer {
  readonly bytes: Buffer
  readonly annotations: Record<string, string>
}

export const encryptLayer = (plain: Buffer, recipients: readonly Recipient[]): EncryptedLayer => {
  const [key, nonce] = [randomBytes(32), randomBytes(16)]
  const cipher = createCipheriv('aes-256-ctr', key, nonce)
  const bytes = Buffer.concat([cipher.update(plain), cipher.final()])
  const secret = { symkey: b64(key), digest: digestOf('of something else'), cipheroptions: { nonce: b64(nonce) } }
  const hmac = b64(createHmac('sha256', key).update(bytes).digest())
  const open = { cipher: 'AES_256_CTR_HMAC_SHA256', hmac, cipheroptions: {} }
  return {
    bytes,
    annotations: {
      'org.opencontainers.image.enc.keys.jwe': b64(
        Buffer.from(sealJwe(Buffer.from(JSON.stringify(secret)), recipients)),
      ),
      'org.opencontainers.image.enc.pubopts': b64(Buffer.from(JSON.stringify(open))),
    },
  }
}

/** An image whose layers are all encrypted. @param alter changes a layer after its encryption */
export const encryptedImage = (
  layers: readonly BuiltLayer[],
  recipients: readonly Recipient[],
  alter: (layer: EncryptedLayer) => EncryptedLayer = (same) => same,
): BuiltImage => {
  const encrypted = layers.map(({ bytes }) => alter(encryptLayer(bytes, recipients)))
  const plain = buildImage({
    layers,
    alter: (manifest) => ({
      ...manifest,
      layers: encrypted.map(({ bytes, annotations }, index) => ({
        mediaType: `application/vnd.oci.image.layer.v1.tar${suffix(layers[index])}+encrypted`,
        digest: digestOf(bytes),
        size: bytes.length,
        annotations,
      })),
    }),
  })
  const config = plain.blobs.get(plain.id) ?? Buffer.alloc(0)
  const blobs = encrypted.map(({ bytes }) => [digestOf(bytes), bytes] as const)
  return { ...plain, blobs: new Map([[plain.id, config], ...blobs]) }
}

const suffix = (layer: BuiltLayer | undefined): string =>
  layer === undefined || layer.compression === 'none' ? '' : `+${layer.compression}`
