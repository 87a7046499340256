/** What a worker ran into → an error for callers: whether the archive or the disk was at fault. */
import { isErrno } from '#linux/errno.ts'
import { type ErrorKind, RuntimeError } from '#proto/errors.ts'

/** What the file system says to an impossible wish of an archive. */
const ARCHIVES_FAULT: [string, ...string[]] = [
  'ENAMETOOLONG',
  'ELOOP',
  'ENOTDIR',
  'EISDIR',
  'EEXIST',
  'ENOENT',
  'EINVAL',
  'EMLINK',
  'EPERM',
]
const DISK_FULL = ['ENOSPC', 'EDQUOT', 'EFBIG', 'EMFILE', 'ENFILE', 'ENOMEM']

/** Whether an archive is to blame for an error met while it was unpacked. */
export const isArchivesFault = (error: unknown): boolean =>
  error instanceof RuntimeError ? error.kind === 'failed-precondition' : isErrno(error, ...ARCHIVES_FAULT)

export interface WorkerFailure {
  readonly kind?: ErrorKind | undefined
  readonly code?: string | undefined
  readonly message: string
}

/** `job` is what the worker was asked for. */
export const workerError = ({ kind, code, message }: WorkerFailure, job: string): RuntimeError => {
  if (kind !== undefined) return new RuntimeError(kind, message)
  const cause = Object.assign(new Error(message), { code })
  const text = job === 'unpack' ? `Cannot unpack layer: ${message}` : `Job "${job}" failed: ${message}`
  return new RuntimeError(kindOf(code ?? '', job), text, { cause })
}

const kindOf = (code: string, job: string): ErrorKind => {
  if (DISK_FULL.includes(code)) return 'resource-exhausted'
  return (job === 'unpack' || job === 'extract') && ARCHIVES_FAULT.includes(code) ? 'failed-precondition' : 'internal'
}
