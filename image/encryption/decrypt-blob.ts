/**
 * An encrypted blob of the store becomes a plain one beside it. First all of it is authenticated (encrypt then MAC), then it is
 * decrypted, so that no byte which nobody vouched for is ever unpacked.
 */

import { createDecipheriv, createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { RuntimeError } from '#proto/errors.ts'
import type { BlobStore } from '#storage/blob-store.ts'
import { type Digest, parseDigest } from '#storage/digest.ts'
import type { LayerKey } from './layer-keys.ts'

/**
 * @param protect is told the plain digest before there is such a blob, so that nobody removes it
 * @returns the digest of the plain blob
 * @throws RuntimeError failed-precondition when it was not encrypted with this key, or has been changed
 */
export const decryptBlob = async (
  blobs: BlobStore,
  digest: Digest,
  layer: LayerKey,
  protect: (plain: Digest) => Promise<void>,
  signal: AbortSignal,
): Promise<Digest> => {
  const plain = await authenticate(blobs, digest, layer, signal)
  await protect(plain)
  await blobs.put(plain, decrypted(blobs, digest, layer), { size: blobs.size(digest) ?? 0, signal })
  return plain
}

/** What says what the plain bytes are may say wrong (ocicrypt notes the digest of before recompression), so it is computed. */
const authenticate = async (
  blobs: BlobStore,
  digest: Digest,
  { key, nonce, hmac }: LayerKey,
  signal: AbortSignal,
): Promise<Digest> => {
  const mac = createHmac('sha256', key)
  const hash = createHash('sha256')
  const decipher = createDecipheriv('aes-256-ctr', key, nonce)
  for await (const piece of blobs.open(digest)) {
    signal.throwIfAborted()
    mac.update(piece)
    hash.update(decipher.update(piece))
  }
  if (!timingSafeEqual(mac.digest(), hmac)) {
    throw new RuntimeError(
      'failed-precondition',
      `Encrypted layer "${digest}" does not have the HMAC that its manifest says`,
    )
  }
  return parseDigest(`sha256:${hash.digest('hex')}`)
}

async function* decrypted(blobs: BlobStore, digest: Digest, { key, nonce }: LayerKey): AsyncGenerator<Uint8Array> {
  const decipher = createDecipheriv('aes-256-ctr', key, nonce)
  for await (const piece of blobs.open(digest)) yield decipher.update(piece)
}
