/** The content of one file: shared with the original where the file system can, otherwise copied with its holes. */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs'
import { isErrno } from '#linux/errno.ts'
import { rawSys, sysError } from '#linux/sys.ts'

const FICLONE = 0x40049409
const SEEK_DATA = 3
const SEEK_HOLE = 4
const PIECE = 512 * 1024
const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

let piece: Buffer | undefined

/** Makes the file `to`, which must not be there, with mode 0600. `onBytes` is told of each piece copied, and may throw. */
export const copyFileData = (from: Buffer, to: Buffer, onBytes: (bytes: number) => void): void => {
  const input = openSync(from, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    const output = openSync(to, CREATE, 0o600)
    try {
      if (rawSys('ioctl', output, FICLONE, input) < 0) copyPieces(input, output, onBytes)
    } finally {
      closeSync(output)
    }
  } finally {
    closeSync(input)
  }
}

const copyPieces = (input: number, output: number, onBytes: (bytes: number) => void): void => {
  const { size } = fstatSync(input)
  piece ??= Buffer.allocUnsafeSlow(PIECE)
  for (let at = 0; at < size; ) {
    const data = seek(input, at, SEEK_DATA)
    if (data === undefined) break
    const end = seek(input, data, SEEK_HOLE) ?? size
    for (at = data; at < end; ) {
      const length = readSync(input, piece, 0, Math.min(PIECE, end - at), at)
      if (length === 0) break
      for (let done = 0; done < length; ) done += writeSync(output, piece, done, length - done, at + done)
      at += length
      onBytes(length)
    }
    if (at < end) break
  }
  ftruncateSync(output, size)
}

/** Undefined when nothing of that kind follows. */
const seek = (fd: number, from: number, whence: number): number | undefined => {
  const result = rawSys('lseek', fd, from, whence)
  if (result >= 0) return result
  const error = sysError(result, 'lseek')
  if (isErrno(error, 'ENXIO')) return undefined
  throw error
}
