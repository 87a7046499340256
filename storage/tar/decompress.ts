/** Bytes of a layer's blob → bytes of the archive. Inflating happens on pool threads, ahead of whoever reads. */
import { readSync } from 'node:fs'
import { Readable } from 'node:stream'
import { constants, createGunzip, createZstdDecompress } from 'node:zlib'
import { RuntimeError } from '#proto/errors.ts'
import { COMPRESSION_MAGIC_LENGTH, type Compression, detectCompression } from '../compression.ts'
import { refused } from './refused.ts'

const CHUNK = 256 * 1024
const BIG_CHUNKS = { chunkSize: CHUNK, highWaterMark: CHUNK }
/** log2 of 128 MiB, the largest window that zstd itself takes by default; the spec recommends 8 MiB. */
const ZSTD_WINDOW_LOG = 27

/** Gives the next bytes, undefined at the end. */
export interface ByteSource {
  next(): Promise<Buffer | undefined>
}

/** An open file. Positions are explicit: the descriptor's own is nobody's. */
export const bytesOf = (fd: number): ByteSource => {
  let position = 0
  return {
    next: async () => {
      const chunk = Buffer.allocUnsafeSlow(CHUNK)
      const count = readSync(fd, chunk, 0, CHUNK, position)
      position += count
      return count === 0 ? undefined : chunk.subarray(0, count)
    },
  }
}

/**
 * The archive in a blob. Throws failed-precondition when the compressed stream is broken, and when it is compressed otherwise than
 * `declared`: a layer about which its manifest and its first bytes differ is not taken.
 */
export async function* decompressed(source: ByteSource, declared?: Compression): AsyncGenerator<Buffer> {
  const start = await firstBytes(source)
  const compression = detectCompression(start)
  if (declared !== undefined && declared !== compression)
    throw refused(`Layer is declared as compressed by "${declared}" but its compression is "${compression}"`)
  const bytes = startingWith(start, source)
  if (compression === 'none') yield* bytes
  else yield* inflated(bytes, compression)
}

/** At least what tells the compression, unless there is less. */
const firstBytes = async (source: ByteSource): Promise<Buffer> => {
  let start: Buffer = Buffer.alloc(0)
  while (start.length < COMPRESSION_MAGIC_LENGTH) {
    const bytes = await source.next()
    if (bytes === undefined) return start
    start = start.length === 0 ? bytes : Buffer.concat([start, bytes])
  }
  return start
}

async function* startingWith(start: Buffer, source: ByteSource): AsyncGenerator<Buffer> {
  for (let bytes: Buffer | undefined = start; bytes !== undefined; bytes = await source.next()) yield bytes
}

async function* inflated(bytes: AsyncIterable<Buffer>, compression: 'gzip' | 'zstd'): AsyncGenerator<Buffer> {
  let read = 0
  const failed: { error?: unknown } = {}
  const counted = async function* (): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of bytes) {
        read += chunk.length
        yield chunk
      }
    } catch (error) {
      failed.error = error
      throw error
    }
  }
  const source = Readable.from(counted(), { objectMode: false, highWaterMark: CHUNK })
  const inflate =
    compression === 'gzip'
      ? createGunzip(BIG_CHUNKS)
      : createZstdDecompress({ ...BIG_CHUNKS, params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG } })
  source.on('error', (error) => inflate.destroy(error))
  source.pipe(inflate)
  try {
    yield* inflate
  } catch (error) {
    if (failed.error !== undefined) throw failed.error
    if (error instanceof RuntimeError || !(error instanceof Error)) throw error
    throw refused(`Layer is not a whole ${compression} stream: ${error.message}`)
  } finally {
    source.destroy()
    inflate.destroy()
  }
  if (inflate.bytesWritten !== read) throw refused(`Layer has bytes after the end of its ${compression} stream`)
}
