/**
 * Waiting for children that libuv does not know: the container's init and orphans adopted as subreaper. Only ever waits for one
 * named pid, because a wait for "any child" would steal the exit status of children that libuv owns.
 */
import { isErrno } from './errno.ts'
import { childrenOf, isZombie } from './proc.ts'
import { rawSys, sys, sysError } from './sys.ts'

export type ChildExit =
  | { pid: number; how: 'exited'; code: number }
  | { pid: number; how: 'signaled'; signal: number; coreDumped: boolean }

const PR_SET_CHILD_SUBREAPER = 36
const P_ALL = 0
const P_PID = 1
const WNOHANG = 1
const WEXITED = 4
const WNOWAIT = 0x01000000
const WALL = 0x40000000
const CLD_EXITED = 1
const CLD_DUMPED = 3

/** Orphaned descendants become children of this process instead of init's. */
export const becomeSubreaper = (): void => {
  sys('prctl', PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

/** siginfo_t of 64-bit machines: code at 8, pid at 16, status at 24. */
const exitOf = (info: Buffer): ChildExit | undefined => {
  const pid = info.readInt32LE(16)
  if (pid === 0) return undefined
  const code = info.readInt32LE(8)
  const status = info.readInt32LE(24)
  if (code === CLD_EXITED) return { pid, how: 'exited', code: status }
  return { pid, how: 'signaled', signal: status, coreDumped: code === CLD_DUMPED }
}

/** Reaps a child that has ended; undefined while it still runs. Throws ECHILD when it is no child of ours (any more). */
export const waitForChild = (pid: number): ChildExit | undefined => {
  if (!Number.isInteger(pid) || pid <= 0) throw new TypeError(`pid "${pid}" is not a positive integer`)
  const info = Buffer.alloc(128)
  sys('waitid', P_PID, pid, info, WEXITED | WNOHANG | WALL, null)
  return exitOf(info)
}

/** Children that have ended and wait to be reaped, those of libuv included. Nothing is consumed. */
export const reapableChildren = (): number[] => {
  const info = Buffer.alloc(128)
  const result = rawSys('waitid', P_ALL, 0, info, WEXITED | WNOHANG | WNOWAIT | WALL, null)
  if (result < 0) {
    const error = sysError(result, 'waitid')
    if (error.code === 'ECHILD') return []
    throw error
  }
  // The call shows only the first one; that there is none at all is the common case.
  if (exitOf(info) === undefined) return []
  return childrenOf(process.pid).filter(isZombie)
}

const reapOne = (pid: number): ChildExit | undefined => {
  try {
    return waitForChild(pid)
  } catch (error) {
    if (isErrno(error, 'ECHILD')) return undefined
    throw error
  }
}

/** Reaps every child that has ended, but for those of `owned`: the pids that libuv or another waiter will wait for. */
export const reapOrphans = (owned: ReadonlySet<number>): ChildExit[] => {
  const reaped: ChildExit[] = []
  for (;;) {
    const round = reapableChildren().flatMap((pid) => (owned.has(pid) ? [] : (reapOne(pid) ?? [])))
    // The kernel's list of children may skip one while others come and go: look until there is nothing new.
    if (round.length === 0) return reaped
    reaped.push(...round)
  }
}
