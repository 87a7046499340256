/**
 * V8 keeps the garbage of start-up and of busy moments until it needs the room, which on a quiet node is never. A full
 * collection of a heap as small as ours takes some ten milliseconds, so it is asked for when enough has been allocated.
 */
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Daemon } from './daemon.ts'

/** What is needed to start is garbage right after it. */
const afterStartMs = 700
const afterCallMs = 10_000

/** What may be allocated between collections: seconds of a busy node, a minute of a quiet one. */
const allocatedBytes = 8 * 1024 * 1024

/** How long it may be put off: a pull can take hours. */
const putOffMs = 60_000

/**
 * Begins the collections, which follow calls; they end with the process. Figures in docs/decisions/0007-daemon-memory.md.
 * @param isBusy whether much is being done, so that it had better wait: nobody is answered during a collection
 */
export function giveBackMemory({ isBusy, slowLooks }: Pick<Daemon, 'isBusy' | 'slowLooks'>): void {
  setFlagsFromString('--expose-gc')
  const gc: unknown = runInNewContext('gc')
  if (typeof gc !== 'function') return
  let collectedAt = 0
  let lookedAt = performance.now()
  const collect = () => {
    if (isBusy() && performance.now() - lookedAt < putOffMs) return true
    lookedAt = performance.now()
    const { total_allocated_bytes: allocated } = getHeapStatistics()
    if (allocated < collectedAt + allocatedBytes) return false
    collectedAt = allocated
    gc({ type: 'major', execution: 'sync', flavor: 'last-resort' })
    return false
  }
  setTimeout(collect, afterStartMs).unref()
  slowLooks.every(afterCallMs)(collect)
}
