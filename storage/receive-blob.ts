/** Bytes that arrive → a blob's partial file, where they are read at once. Not synced: who finds it after a crash verifies it from its beginning. */
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { isErrno } from '#linux/errno.ts'
import type { Growth } from './growth.ts'

export interface ReceiveOptions {
  /** Where the source begins in the blob. */
  readonly from: number
  readonly signal?: AbortSignal
}

const OPEN = constants.O_RDWR | constants.O_CREAT

/** Bytes beyond the growth's size are the source's to refuse. Throws ENOSPC and its like after removing what nobody can go on with. */
export const receiveInto = async (
  path: string,
  source: AsyncIterable<Uint8Array>,
  growth: Growth,
  { from, signal }: ReceiveOptions,
): Promise<void> => {
  await using file = await open(path, OPEN, 0o600)
  if (from === 0 && growth.available === 0) await file.truncate(0)
  let position = from
  try {
    for await (const bytes of source) {
      signal?.throwIfAborted()
      position = await write(file, bytes, position, growth)
    }
  } catch (error) {
    // Nobody can resume onto a full disk, and others need the room.
    if (isErrno(error, 'ENOSPC', 'EDQUOT')) await file.truncate(0)
    throw error
  }
}

/** Done with the bytes when it resolves: the source may use their memory again. Returns where they end. */
const write = async (file: FileHandle, bytes: Uint8Array, from: number, growth: Growth): Promise<number> => {
  let position = from
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position)
    done += bytesWritten
    position += bytesWritten
    growth.reached(position)
  }
  return position
}
