/** Kill a process and all that came from it, leaving none time to fork its way out. */
import { constants } from 'node:os'
import type { Linux } from '#linux/linux.ts'
import type { ProcessIdentity } from '#linux/proc.ts'

const { SIGKILL, SIGSTOP } = constants.signals

/**
 * Stop, then kill, a process and its descendants. Stopped processes cannot fork, so the walk ends when it finds no process
 * that was not stopped yet. The pid must be one that cannot change hands meanwhile: a child nobody has waited for.
 */
export function killTree(linux: Linux, pid: number): void {
  const root = linux.processIdentity(pid)
  if (root) killTrees(linux, [root])
}

/** As `killTree`, for several. @returns whom it killed */
export function killTrees(linux: Linux, roots: readonly ProcessIdentity[]): ProcessIdentity[] {
  const stopped = new Map<number, ProcessIdentity>()
  // A fork that was under way while its parent was stopped shows only in the next round.
  for (let grew = true; grew; ) {
    const before = stopped.size
    stopTrees(linux, roots, stopped)
    grew = stopped.size > before
  }
  for (const identity of stopped.values()) linux.signalProcess(identity, SIGKILL)
  return [...stopped.values()]
}

function stopTrees(linux: Linux, roots: readonly ProcessIdentity[], stopped: Map<number, ProcessIdentity>): void {
  const queue = [...roots]
  const seen = new Set<number>()
  for (let next = queue.pop(); next; next = queue.pop()) {
    if (seen.has(next.pid)) continue
    seen.add(next.pid)
    if (!stopped.has(next.pid) && !linux.signalProcess(next, SIGSTOP)) continue
    stopped.set(next.pid, next)
    for (const pid of linux.childrenOf(next.pid)) {
      const child = linux.processIdentity(pid)
      if (child) queue.push(child)
    }
  }
}
