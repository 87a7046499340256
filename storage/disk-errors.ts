/** What a full or broken disk means to callers. */
import { isErrno } from '#linux/errno.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'

/** `error` as it is when it has a kind, resource-exhausted for a full disk, internal otherwise. `what` starts the message. */
export const asDiskError = (error: unknown, what: string): RuntimeError => {
  if (error instanceof RuntimeError) return error
  const isFull = isErrno(error, 'ENOSPC', 'EDQUOT', 'EFBIG', 'EMFILE', 'ENFILE', 'ENOMEM')
  return new RuntimeError(isFull ? 'resource-exhausted' : 'internal', `${what}: ${messageOf(error)}`, { cause: error })
}

/** The same, with `what` in front also of what has a kind. */
export const withSubject = (error: unknown, what: string): RuntimeError =>
  error instanceof RuntimeError
    ? new RuntimeError(error.kind, `${what}: ${error.message}`, { cause: error })
    : asDiskError(error, what)
