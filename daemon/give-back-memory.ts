/**
 * V8 keeps the garbage of start-up and of busy moments until it needs the room, which on a quiet node is never. A full
 * collection of a heap as small as ours takes some ten milliseconds, so it is asked for when enough has piled up.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

const afterStartMs = 700
const intervalMs = 10_000

/** What may pile up between collections. */
const slackBytes = 4 * 1024 * 1024

export function giveBackMemory(): void {
  setFlagsFromString('--expose-gc')
  const gc: unknown = runInNewContext('gc')
  if (typeof gc !== 'function') return
  let kept = 0
  const collect = () => {
    if (held() < kept + slackBytes) return
    gc({ type: 'major', execution: 'sync', flavor: 'last-resort' })
    kept = held()
  }
  setTimeout(collect, afterStartMs).unref()
  setInterval(collect, intervalMs).unref()
}

function held(): number {
  const { heapTotal, external } = process.memoryUsage()
  return heapTotal + external
}
