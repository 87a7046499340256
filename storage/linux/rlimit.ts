/** How many files a process may have open. Node and Bun raise the soft limit to the hard one when they start; what they execute need not. */
import { isErrno } from './errno.ts'
import { sys } from './sys.ts'

const RLIMIT_NOFILE = 7
const SELF = 0

export interface Limit {
  /** What counts; the process may change it up to `hard`. */
  readonly soft: bigint
  readonly hard: bigint
}

/** A process's limit on open files; this one's when no pid is given. The caller sees to it that the pid is still whom it means. */
export const openFilesLimit = (pid = SELF): Limit => {
  const now = Buffer.alloc(16)
  sys('prlimit64', pid, RLIMIT_NOFILE, null, now)
  return { soft: now.readBigUInt64LE(0), hard: now.readBigUInt64LE(8) }
}

/** Sets it. Files that are open beyond it stay open. */
export const setOpenFilesLimit = ({ soft, hard }: Limit, pid = SELF): void => {
  const next = Buffer.alloc(16)
  next.writeBigUInt64LE(soft, 0)
  next.writeBigUInt64LE(hard, 8)
  sys('prlimit64', pid, RLIMIT_NOFILE, next, null)
}

/** How many files a process may have open; undefined when it is gone. Without a limit, the largest number there is. */
export const softOpenFilesLimit = (pid: number): number | undefined => {
  try {
    return Math.min(Number(openFilesLimit(pid).soft), Number.MAX_SAFE_INTEGER)
  } catch (error) {
    if (isErrno(error, 'ESRCH')) return undefined
    throw error
  }
}
