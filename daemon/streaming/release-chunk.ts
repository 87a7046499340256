/**
 * Memory of bytes that only passed through. Every read of a socket takes a fresh 64 KiB, which is nothing to the heap and so
 * stays until a whole collection runs; at some hundred megabytes a second that is all the daemon would do. Given back at once,
 * the same memory serves the next read.
 */

/** Bytes of a chunk that are still looked at, by its memory; of chunks that were handed on in parts. */
const lent = new WeakMap<ArrayBufferLike, number>()

const isWhole = (chunk: Buffer): boolean => chunk.buffer.byteLength === chunk.byteLength

const free = (memory: ArrayBufferLike): void => {
  if (memory instanceof ArrayBuffer && !memory.detached) memory.transfer(0)
}

/** The parts of this chunk, which a socket of ours has read, will be released one by one; those that are not keep it alive. */
export const lendChunk = (chunk: Buffer): void => {
  if (isWhole(chunk)) lent.set(chunk.buffer, chunk.byteLength)
}

/** So many bytes of lent memory are looked at no more. */
export const releaseBytes = (memory: ArrayBufferLike, bytes: number): void => {
  const left = lent.get(memory)
  if (left === undefined) return
  if (left > bytes) lent.set(memory, left - bytes)
  else {
    lent.delete(memory)
    free(memory)
  }
}

/**
 * Only once, and only for a chunk that was read by a socket or pipe of ours, or lent, and that nobody looks at any more: after the
 * callback of the write that passed it on, and not after one that failed, for then the kernel may not be done with it.
 */
export const releaseChunk = (chunk: Buffer): void => {
  if (lent.has(chunk.buffer)) releaseBytes(chunk.buffer, chunk.byteLength)
  else if (isWhole(chunk)) free(chunk.buffer)
}
