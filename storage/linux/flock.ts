/** A lock that the kernel gives back when its holder dies. */
import { closeSync, constants, openSync } from 'node:fs'
import { LinuxError } from './errno.ts'
import { rawSys, sysError } from './sys.ts'

export interface FileLock {
  fd: number
  /** Gives the lock back. Idempotent. The file stays: removing it would let two holders lock two files of one name. */
  release(): void
}

const LOCK_EX_NB = 2 | 4

/** Takes an exclusive lock on a file, created when missing. Throws EWOULDBLOCK at once when another process holds it. */
export const lockFile = (path: string): FileLock => {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600)
  const result = rawSys('flock', fd, LOCK_EX_NB)
  if (result < 0) {
    closeSync(fd)
    const error = sysError(result, 'flock', path)
    throw error.code === 'EAGAIN' ? new LinuxError('EWOULDBLOCK', 'flock', path) : error
  }
  let held = true
  const release = () => {
    if (held) closeSync(fd)
    held = false
  }
  return { fd, release }
}
