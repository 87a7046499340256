/** A part of an open file in pieces of one buffer: what is read next needs no memory of its own, and leaves none behind to be collected. */

import { read } from 'node:fs'
import { promisify } from 'node:util'

const PIECE = 256 * 1024
const readAt = promisify(read)

/** Ends at `end` or with the file. Each piece is the reader's until it asks for the next one. Does not close the file. */
export async function* filePieces(
  fd: number,
  start: number,
  end: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const buffer = Buffer.allocUnsafeSlow(Math.max(1, Math.min(PIECE, end - start)))
  for (let at = start; at < end; ) {
    signal.throwIfAborted()
    const { bytesRead } = await readAt(fd, buffer, 0, Math.min(buffer.length, end - at), at)
    if (bytesRead === 0) return
    at += bytesRead
    yield buffer.subarray(0, bytesRead)
  }
}
