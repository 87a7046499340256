/** Digests: content named by its hash. The only place where a string becomes a `Digest`, so that nothing else reaches paths or URLs (CVE-2024-3727). */
import { createHash, type Hash } from 'node:crypto'
import { RuntimeError } from '#proto/errors.ts'

declare const digestBrand: unique symbol
declare const diffIdBrand: unique symbol

/** `sha256:<64 hex>` or `sha512:<128 hex>`, lower case. Of a blob as it travels (compressed). */
export type Digest = string & { readonly [digestBrand]: true }
/** The digest of a layer's uncompressed archive. */
export type DiffId = Digest & { readonly [diffIdBrand]: true }
export type DigestAlgorithm = 'sha256' | 'sha512'

const PATTERN = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/

/** Whether `value` is a digest in the one spelling we accept. */
export const isDigest = (value: unknown): value is Digest => typeof value === 'string' && PATTERN.test(value)

const quoted = (text: unknown): string => JSON.stringify(String(text).slice(0, 160))

/** Throws invalid-argument for anything but a lower-case sha256 or sha512 digest. */
export const parseDigest = (text: string): Digest => {
  if (!isDigest(text)) throw new RuntimeError('invalid-argument', `Digest ${quoted(text)} is not valid`)
  return text
}

/** A digest that names an uncompressed layer. Throws invalid-argument. */
export const parseDiffId = (text: string): DiffId => parseDigest(text) as DiffId

export const algorithmOf = (digest: Digest): DigestAlgorithm => (digest.startsWith('sha512:') ? 'sha512' : 'sha256')

export const hexOf = (digest: Digest): string => digest.slice(7)

/** A running hash whose `digest()` is compared with a Digest. */
export interface DigestStream {
  update(bytes: Uint8Array): void
  /** Ends the stream. */
  digest(): Digest
}

export const digestStream = (algorithm: DigestAlgorithm): DigestStream => {
  const hash: Hash = createHash(algorithm)
  return {
    update: (bytes) => void hash.update(bytes),
    digest: () => `${algorithm}:${hash.digest('hex')}` as Digest,
  }
}

export const digestOf = (bytes: Uint8Array | string, algorithm: DigestAlgorithm = 'sha256'): Digest =>
  `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}` as Digest
