/** Reads whole small files without ever taking more than a limit, and without waiting on a FIFO that poses as a file. */
import { closeSync, constants, openSync, readSync } from 'node:fs'
import { isErrno, LinuxError } from './errno.ts'

const CHUNK = 16 * 1024
/** Most files fit, and thousands of them are read: a chunk of its own for each would keep the collector of garbage busy. */
const passage = Buffer.allocUnsafeSlow(CHUNK)

/** Reads an open file from where it stands to its end. Throws EFBIG when it holds more than `maxBytes`. */
export const readFdBounded = (fd: number, maxBytes: number, path: string): Buffer => {
  const chunks: Buffer[] = []
  let total = 0
  for (;;) {
    // One byte beyond the limit tells a file that is too long from one that just fits.
    const count = readSync(fd, passage, 0, Math.min(CHUNK, maxBytes + 1 - total), null)
    if (count === 0) break
    total += count
    if (total > maxBytes) throw new LinuxError('EFBIG', 'read', path, `more than ${maxBytes} bytes`)
    chunks.push(Buffer.from(passage.subarray(0, count)))
  }
  const only = chunks.length === 1 ? chunks[0] : undefined
  return only ?? Buffer.concat(chunks)
}

/** Reads a file. Throws EFBIG when it holds more than `maxBytes`, and what open and read throw. */
export const readBounded = (path: string, maxBytes = 64 * 1024): Buffer => {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    return readFdBounded(fd, maxBytes, path)
  } finally {
    closeSync(fd)
  }
}

/** The text of a kernel file, or undefined when the file, or the process or cgroup behind it, is gone. */
export const readKernelFile = (path: string, maxBytes?: number): string | undefined => {
  try {
    return readBounded(path, maxBytes).toString()
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH', 'ENODEV', 'ENOTDIR')) return undefined
    throw error
  }
}
