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

/** Bytes that may wait for the disk before the source has to. */
const MOST_GATHERED = 256 * 1024
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
  const writer = new Writer(file, growth, from)
  try {
    for await (const bytes of source) {
      signal?.throwIfAborted()
      await writer.take(bytes)
    }
    await writer.finish()
  } catch (error) {
    await writer.finish().catch(() => {})
    // Nobody can resume onto a full disk, and others need the room.
    if (isErrno(error, 'ENOSPC', 'EDQUOT')) await file.truncate(0)
    throw error
  }
}

/** Writes what has gathered while the write before was under way: pieces of a socket are small, and each call costs the same. */
class Writer {
  readonly #file: FileHandle
  readonly #growth: Growth
  #position: number
  #gathered: Uint8Array[] = []
  #bytes = 0
  #writing: Promise<void> | undefined
  #failure: { readonly error: unknown } | undefined

  constructor(file: FileHandle, growth: Growth, from: number) {
    this.#file = file
    this.#growth = growth
    this.#position = from
  }

  async take(bytes: Uint8Array): Promise<void> {
    this.#gathered.push(bytes)
    this.#bytes += bytes.length
    if (this.#bytes >= MOST_GATHERED) await this.#writing
    if (this.#failure !== undefined) throw this.#failure.error
    // What had gathered may have been written while we waited.
    if (this.#gathered.length > 0) this.#writing ??= this.#write()
  }

  /** What came before the source broke is kept as well. */
  async finish(): Promise<void> {
    await this.#writing
    if (this.#failure !== undefined) throw this.#failure.error
  }

  async #write(): Promise<void> {
    try {
      while (this.#gathered.length > 0) {
        const bytes = this.#gathered.length === 1 ? this.#gathered[0] : Buffer.concat(this.#gathered, this.#bytes)
        this.#gathered = []
        this.#bytes = 0
        if (bytes !== undefined) await this.#writeAll(bytes)
      }
    } catch (error) {
      this.#failure = { error }
    }
    this.#writing = undefined
  }

  async #writeAll(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, this.#position)
      done += bytesWritten
      this.#position += bytesWritten
      this.#growth.reached(this.#position)
    }
  }
}
