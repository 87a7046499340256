/** Reads the file of a Localhost seccomp profile from the node. */
import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import { isErrno } from '#linux/errno.ts'
import { readFdBounded } from '#linux/read-bounded.ts'
import { impossible, quoted } from './spec/refuse.ts'

const MAX_BYTES = 1024 * 1024

/** @throws RuntimeError failed-precondition: a profile that cannot be read never means "no profile" (CVE-2023-2431) */
export const readSeccompProfile = (path: string): string => {
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
    try {
      if (!fstatSync(fd).isFile()) throw impossible(`Seccomp profile ${quoted(path)} is not a regular file`)
      return readFdBounded(fd, MAX_BYTES, path).toString('utf8')
    } finally {
      closeSync(fd)
    }
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) throw impossible(`Seccomp profile ${quoted(path)} does not exist`, error)
    if (isErrno(error, 'EFBIG'))
      throw impossible(`Seccomp profile ${quoted(path)} is larger than ${MAX_BYTES} bytes`, error)
    throw error
  }
}
