/** What a full or broken disk means to callers. */
import { isErrno } from '#linux/errno.ts'
import { statfs } from '#linux/statfs.ts'
import { type ErrorKind, messageOf, RuntimeError } from '#proto/errors.ts'

/** The disk is full, read-only or broken: nothing is wrong with what was to be written. */
export const isDiskFault = (error: unknown): boolean =>
  isErrno(error instanceof RuntimeError ? error.cause : error, 'ENOSPC', 'EDQUOT', 'EROFS', 'EIO')

/**
 * `error` as it is when it has a kind, resource-exhausted for a full disk, unavailable for a broken one, internal otherwise. `what` starts the message;
 * `directory` is where it happened, so that a want of inodes can be told from a want of room.
 */
export const asDiskError = (error: unknown, what: string, directory?: string): RuntimeError => {
  if (error instanceof RuntimeError) return error
  const inodes = isErrno(error, 'ENOSPC') && directory !== undefined && lacksInodes(directory)
  const message = `${what}: ${messageOf(error)}${inodes ? ' (it has no inodes left)' : ''}`
  return new RuntimeError(kindOf(error), message, { cause: error })
}

const kindOf = (error: unknown): ErrorKind => {
  if (isErrno(error, 'ENOSPC', 'EDQUOT', 'EFBIG', 'EMFILE', 'ENFILE', 'ENOMEM')) return 'resource-exhausted'
  return isErrno(error, 'EROFS', 'EIO') ? 'unavailable' : 'internal'
}

/** File systems that make inodes as they go say that they have none at all. */
const lacksInodes = (directory: string): boolean => {
  try {
    const { files, filesFree } = statfs(directory)
    return files > 0 && filesFree === 0
  } catch {
    return false
  }
}

/** The same, with `what` in front also of what has a kind. */
export const withSubject = (error: unknown, what: string): RuntimeError =>
  error instanceof RuntimeError
    ? new RuntimeError(error.kind, `${what}: ${error.message}`, { cause: error })
    : asDiskError(error, what)
