/** The keys of encrypted layers (ocicrypt), taken out of the annotations of a manifest with the node's private keys, before a byte is fetched. */

import type { KeyObject } from 'node:crypto'
import * as z from 'zod'
import { isKind, messageOf, RuntimeError } from '#proto/errors.ts'
import type { Descriptor, LayerDescriptor } from '../manifest.ts'
import { isEncrypted } from '../media-types.ts'
import { openJwe } from './jwe.ts'

export interface LayerKey {
  /** 32 bytes. */
  readonly key: Buffer
  /** 16 bytes. */
  readonly nonce: Buffer
  /** HMAC-SHA256 of the encrypted bytes under the same key. */
  readonly hmac: Buffer
}

const PREFIX = 'org.opencontainers.image.enc'
/** Other ways to wrap keys, which people should learn by name that we lack. */
const OTHERS = ['pgp', 'pkcs7', 'pkcs11', 'provider']

const bytes = (length: number) =>
  z
    .base64()
    .transform((text) => Buffer.from(text, 'base64'))
    .refine((each) => each.length === length, { error: `must be ${length} bytes` })

const privateFields = z.object({ symkey: bytes(32), cipheroptions: z.object({ nonce: bytes(16) }) })
const publicFields = z.object({ cipher: z.literal('AES_256_CTR_HMAC_SHA256'), hmac: bytes(32) })

/**
 * @param keys gives the node's keys; asked only when a layer is encrypted
 * @returns the key of each encrypted layer, by its digest
 * @throws RuntimeError failed-precondition when no key of the node opens one
 */
export const layerKeys = (
  layers: readonly LayerDescriptor[],
  what: string,
  keys: () => readonly KeyObject[],
): Map<Descriptor['digest'], LayerKey> => {
  const encrypted = layers.filter(({ mediaType }) => isEncrypted(mediaType))
  if (encrypted.length === 0) return new Map()
  const own = keys()
  return new Map(encrypted.map((layer) => [layer.digest, keyOf(layer, what, own)]))
}

const keyOf = ({ digest, annotations }: LayerDescriptor, what: string, keys: readonly KeyObject[]): LayerKey => {
  const refused = (why: string, cause?: unknown): RuntimeError =>
    new RuntimeError('failed-precondition', `Layer "${digest}" of "${what}" is encrypted, and ${why}`, { cause })
  const wrapped = annotations?.[`${PREFIX}.keys.jwe`]
  if (!wrapped) {
    const other = OTHERS.find((name) =>
      Object.keys(annotations ?? {}).some((key) => key.startsWith(`${PREFIX}.keys.${name}`)),
    )
    throw refused(other ? `its key is wrapped by ${other}, which is not supported (jwe is)` : 'it says no key')
  }
  if (keys.length === 0) throw refused('this node has no private keys (image.decryptionKeysDir)')
  try {
    const content = wrapped.split(',').reduce<Buffer | undefined>((found, each) => found ?? open(each, keys), undefined)
    if (content === undefined) throw refused(`none of the ${keys.length} private keys of this node opens it`)
    const { symkey, cipheroptions } = privateFields.parse(JSON.parse(content.toString('utf8')))
    const said = Buffer.from(annotations?.[`${PREFIX}.pubopts`] ?? '', 'base64').toString('utf8')
    return { key: symkey, nonce: cipheroptions.nonce, hmac: publicFields.parse(JSON.parse(said)).hmac }
  } catch (error) {
    if (isKind(error, 'failed-precondition')) throw error
    // The text could hold the key.
    throw refused(
      `what it says of its key cannot be read (${error instanceof z.ZodError ? issueOf(error) : nameOf(error)})`,
    )
  }
}

const open = (base64: string, keys: readonly KeyObject[]): Buffer | undefined =>
  openJwe(Buffer.from(base64, 'base64').toString('utf8'), keys)

const issueOf = ({ issues }: z.ZodError): string => issues[0]?.path.join('.') ?? 'unknown'

const nameOf = (error: unknown): string => (error instanceof SyntaxError ? 'no JSON' : messageOf(error).slice(0, 100))
