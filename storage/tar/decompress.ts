/** Layer blobs → bytes of the archive. Inflating happens on pool threads, ahead of whoever reads. */
import { readSync } from 'node:fs'
import { Readable } from 'node:stream'
import { constants, createGunzip, createZstdDecompress } from 'node:zlib'
import { isErrno } from '#linux/errno.ts'
import { COMPRESSION_MAGIC_LENGTH, type Compression, detectCompression } from '../compression.ts'
import { refused } from './refused.ts'

const CHUNK = 256 * 1024
const BIG_CHUNKS = { chunkSize: CHUNK, highWaterMark: CHUNK }
/** log2 of 128 MiB, the largest window that zstd itself takes by default; the spec recommends 8 MiB. */
const ZSTD_WINDOW_LOG = 27

/** The archive in an open blob file. Throws failed-precondition when the compressed stream is broken. */
export async function* decompressed(fd: number): AsyncGenerator<Buffer> {
  const magic = Buffer.alloc(COMPRESSION_MAGIC_LENGTH)
  const length = readSync(fd, magic, 0, magic.length, 0)
  const compression = detectCompression(magic.subarray(0, length))
  if (compression === 'none') yield* chunksOf(fd)
  else yield* inflated(fd, compression)
}

/** Positions are explicit: the descriptor's own is nobody's. */
function* chunksOf(fd: number): Generator<Buffer> {
  for (let position = 0; ; ) {
    const chunk = Buffer.allocUnsafeSlow(CHUNK)
    const count = readSync(fd, chunk, 0, CHUNK, position)
    if (count === 0) return
    position += count
    yield chunk.subarray(0, count)
  }
}

async function* inflated(fd: number, compression: Exclude<Compression, 'none'>): AsyncGenerator<Buffer> {
  let read = 0
  const counted = function* (): Generator<Buffer> {
    for (const chunk of chunksOf(fd)) {
      read += chunk.length
      yield chunk
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
    if (isErrno(error, 'EIO') || !(error instanceof Error)) throw error
    throw refused(`Layer is not a whole ${compression} stream: ${error.message}`)
  } finally {
    source.destroy()
    inflate.destroy()
  }
  if (inflate.bytesWritten !== read) throw refused(`Layer has bytes after the end of its ${compression} stream`)
}
