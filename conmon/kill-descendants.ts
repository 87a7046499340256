/** Kills what a failed runtime has left: as child subreaper the monitor inherits all of it. */

import { signalProcess } from '#linux/pidfd.ts'
import { childrenOf, isAlive, processIdentity } from '#linux/proc.ts'

const SIGKILL = 9
const PAUSE_MS = 10

/** Until no live child is left, whose own children then come next, or the time is over. */
export async function killDescendants(timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const left = childrenOf(process.pid)
      .flatMap((pid) => processIdentity(pid) ?? [])
      .filter(isAlive)
    if (left.length === 0 || performance.now() > deadline) return
    for (const identity of left) signalProcess(identity, SIGKILL)
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
  }
}
