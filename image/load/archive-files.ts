/**
 * A tar archive as a set of named files, read where they lie: nothing of it is unpacked, names are never paths of ours. What
 * is compressed is first decompressed into a nameless file.
 */

import { randomBytes } from 'node:crypto'
import { type FileHandle, open, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createZstdDecompress, constants as zlib } from 'node:zlib'
import { isErrno } from '#linux/errno.ts'
import { isKind, messageOf, RuntimeError } from '#proto/errors.ts'
import { COMPRESSION_MAGIC_LENGTH, type Compression, detectCompression } from '#storage/compression.ts'
import { asDiskError } from '#storage/disk-errors.ts'
import { filePieces } from '../file-pieces.ts'
import type { BlobStream } from '../image-source.ts'
import type { LayoutFiles } from '../layout-files.ts'
import { type ArchivedFile, listArchive } from './list-archive.ts'

export interface ArchiveLimits {
  /** Where the decompressed archive may lie for the time of the load; the disk that images lie on. */
  readonly scratchDir: string
  /** Of the decompressed archive. */
  readonly maxBytes: number
}

export class ArchiveFiles implements LayoutFiles, AsyncDisposable {
  readonly what: string
  readonly #handle: FileHandle
  readonly #files: ReadonlyMap<string, ArchivedFile>

  private constructor(what: string, handle: FileHandle, files: ReadonlyMap<string, ArchivedFile>) {
    this.what = what
    this.#handle = handle
    this.#files = files
  }

  /** @throws RuntimeError not-found, failed-precondition for what is no acceptable archive, resource-exhausted */
  static async open(path: string, limits: ArchiveLimits, signal: AbortSignal): Promise<ArchiveFiles> {
    const handle = await openArchive(path, limits, signal)
    try {
      return new ArchiveFiles(`archive "${path}"`, handle, await listArchive(handle, path, signal))
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  has(name: string): boolean {
    return this.#files.has(name)
  }

  /** Bytes of a file. @throws RuntimeError failed-precondition */
  size(name: string): number {
    return this.#file(name).size
  }

  async read(name: string, maxBytes: number): Promise<Buffer> {
    const { offset, size } = this.#file(name)
    if (size > maxBytes) {
      throw new RuntimeError('resource-exhausted', `File "${name}" of ${this.what} is larger than ${maxBytes} bytes`)
    }
    return this.slice(offset, size)
  }

  /** The first bytes of a file, for telling what it is. */
  async beginning(name: string, length: number): Promise<Buffer> {
    const { offset, size } = this.#file(name)
    return this.slice(offset, Math.min(size, length))
  }

  stream(name: string, start: number, signal: AbortSignal, end?: number): BlobStream {
    const { offset, size } = this.#file(name)
    const last = Math.min(end ?? size, size)
    return {
      offset: start,
      ...(end !== undefined && { end }),
      bytes: filePieces(this.#handle.fd, offset + start, offset + Math.max(start, last), signal),
      discard: () => {},
    }
  }

  async slice(offset: number, length: number): Promise<Buffer> {
    const { buffer, bytesRead } = await this.#handle.read(Buffer.alloc(length), 0, length, offset)
    return buffer.subarray(0, bytesRead)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close()
  }

  #file(name: string): ArchivedFile {
    const found = this.#files.get(name)
    if (found) return found
    throw new RuntimeError('failed-precondition', `No file ${JSON.stringify(name.slice(0, 200))} in ${this.what}`)
  }
}

const openArchive = async (path: string, limits: ArchiveLimits, signal: AbortSignal): Promise<FileHandle> => {
  const handle = await openFile(path)
  try {
    const compression = detectCompression((await handle.read(Buffer.alloc(COMPRESSION_MAGIC_LENGTH), 0)).buffer)
    if (compression === 'none') return handle
    return await decompressed(handle, path, { compression, ...limits }, signal)
  } catch (error) {
    await handle.close().catch(() => {})
    throw error
  }
}

const openFile = async (path: string): Promise<FileHandle> => {
  try {
    const handle = await open(path, 'r')
    if ((await handle.stat()).isFile()) return handle
    await handle.close()
  } catch (error) {
    if (isErrno(error, 'ENOENT')) throw new RuntimeError('not-found', `There is no file "${path}"`, { cause: error })
    throw new RuntimeError('failed-precondition', `"${path}" cannot be read: ${messageOf(error)}`, { cause: error })
  }
  throw new RuntimeError('failed-precondition', `"${path}" is neither a file nor a directory`)
}

/** What the format's own specification recommends that readers take: 128 MiB. */
const MAX_WINDOW = { [zlib.ZSTD_d_windowLogMax]: 27 }

const decompressed = async (
  from: FileHandle,
  path: string,
  { compression, scratchDir, maxBytes }: ArchiveLimits & { compression: Compression },
  signal: AbortSignal,
): Promise<FileHandle> => {
  const scratch = join(scratchDir, `load-${randomBytes(8).toString('hex')}.tmp`)
  const to = await open(scratch, 'wx+', 0o600)
  // Gone with its last descriptor, whatever happens to us.
  await unlink(scratch)
  const input = kept(filePieces(from.fd, 0, Number.MAX_SAFE_INTEGER, signal))
  const unpacker = compression === 'gzip' ? createGunzip() : createZstdDecompress({ params: MAX_WINDOW })
  try {
    await pipeline(input, unpacker, (pieces) => writeBounded(pieces, to, path, maxBytes), { signal })
  } catch (error) {
    await to.close()
    signal.throwIfAborted()
    if (isKind(error, 'resource-exhausted')) throw error
    if (isErrno(error, 'ENOSPC', 'EDQUOT', 'EIO', 'EROFS')) throw asDiskError(error, `Cannot decompress "${path}"`)
    throw new RuntimeError('failed-precondition', `"${path}" cannot be decompressed: ${messageOf(error)}`, {
      cause: error,
    })
  }
  await from.close()
  return to
}

/** For a reader that has several pieces at a time. */
async function* kept(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer, void, undefined> {
  for await (const piece of pieces) yield Buffer.from(piece)
}

const writeBounded = async (
  pieces: AsyncIterable<Buffer>,
  to: FileHandle,
  path: string,
  maxBytes: number,
): Promise<void> => {
  let size = 0
  for await (const piece of pieces) {
    size += piece.length
    if (size > maxBytes)
      throw new RuntimeError('resource-exhausted', `"${path}" is larger than the ${maxBytes} bytes that are free`)
    await to.writeFile(piece)
  }
}
