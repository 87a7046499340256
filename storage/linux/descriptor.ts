/** Reading and writing of non-blocking descriptors without an exception for "try again", and what descriptors are inherited. */
import { closeSync, readdirSync } from 'node:fs'
import { isErrno } from './errno.ts'
import { rawSys, sys } from './sys.ts'

const EFD_CLOEXEC_NONBLOCK = 0o2000000 | 0o4000
const F_GETFD = 1
const FD_CLOEXEC = 1
const F_DUPFD_CLOEXEC = 1030

/** The negative results worth telling apart. */
export const tryAgain = -11
export const ioError = -5

/** Reads into the whole of `buffer`. Returns the number of bytes, 0 at the end, or -errno. */
export const readSome = (fd: number, buffer: Uint8Array): number => rawSys('read', fd, buffer, buffer.length)

/** Writes `buffer`, or as much of it as fits. Returns the number of bytes, or -errno. */
export const writeSome = (fd: number, buffer: Uint8Array): number => rawSys('write', fd, buffer, buffer.length)

/** A second descriptor of the same open file, close-on-exec: one that can be watched for other events. */
export const duplicate = (fd: number): number => sys('fcntl', fd, F_DUPFD_CLOEXEC, 3)

/** A counter that `signalEvent` makes readable. */
export const makeEvent = (): number => sys('eventfd2', 0, EFD_CLOEXEC_NONBLOCK)

export const signalEvent = (fd: number): void => {
  const one = Buffer.alloc(8)
  one.writeBigUInt64LE(1n)
  writeSome(fd, one)
}

/** Whether a child would inherit this descriptor. */
function isInheritable(fd: number): boolean {
  const flags = rawSys('fcntl', fd, F_GETFD, 0)
  return flags >= 0 && (flags & FD_CLOEXEC) === 0
}

/**
 * Closes every descriptor above 2 that a child would inherit. Node and Bun make theirs close-on-exec, so these are the ones that we
 * have inherited ourselves. (Node makes inherited ones close-on-exec too, and they stay; no child gets them.)
 */
export function closeInherited(except: readonly number[]): void {
  for (const name of readdirSync('/proc/self/fd')) {
    const fd = Number(name)
    if (fd <= 2 || except.includes(fd)) continue
    if (!isInheritable(fd)) continue
    try {
      closeSync(fd)
    } catch (error) {
      if (!isErrno(error, 'EBADF')) throw error
    }
  }
}
