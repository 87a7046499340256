/** How many files a process may have open. Node and Bun raise the soft limit to the hard one when they start; what they execute need not. */
import { sys } from './sys.ts'

const RLIMIT_NOFILE = 7
const SELF = 0

export interface Limit {
  /** What counts; the process may change it up to `hard`. */
  readonly soft: bigint
  readonly hard: bigint
}

/** This process's limit on open files. */
export const openFilesLimit = (): Limit => {
  const now = Buffer.alloc(16)
  sys('prlimit64', SELF, RLIMIT_NOFILE, null, now)
  return { soft: now.readBigUInt64LE(0), hard: now.readBigUInt64LE(8) }
}

/** Sets this process's limit. Files that are open beyond it stay open. */
export const setOpenFilesLimit = ({ soft, hard }: Limit): void => {
  const next = Buffer.alloc(16)
  next.writeBigUInt64LE(soft, 0)
  next.writeBigUInt64LE(hard, 8)
  sys('prlimit64', SELF, RLIMIT_NOFILE, next, null)
}
