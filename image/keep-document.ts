/** Small documents of images, kept as blobs. */

import type { BlobStore } from '#storage/blob-store.ts'
import type { Digest } from '#storage/digest.ts'
import { asDiskError } from '#storage/disk-errors.ts'

/** Documents stay in the blob store: they are small and prove later what the image is. */
export const keepDocument = async (
  blobs: BlobStore,
  { digest, bytes }: { digest: Digest; bytes: Buffer },
  signal: AbortSignal,
): Promise<void> => {
  if (blobs.has(digest)) return
  try {
    await blobs.put(digest, only(bytes), { size: bytes.length, signal })
  } catch (error) {
    throw asDiskError(error, `Cannot store document "${digest}"`)
  }
}

async function* only(bytes: Buffer): AsyncGenerator<Uint8Array, void, undefined> {
  yield bytes
}
