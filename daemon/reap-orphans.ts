/**
 * The daemon takes in the orphans of its children (commands in containers whose runtime was killed, containers whose monitor
 * was killed) and reaps them: not every host has a PID 1 that does so quickly, and a zombie keeps its cgroup busy.
 */
import type { Linux } from '#linux/linux.ts'

/** libuv collects its own children in the turn of the event loop in which they end; whoever stays a zombie is no child of it. */
const settleMs = 500

export function adoptOrphans(linux: Linux): void {
  linux.becomeSubreaper()
  let suspects = new Set<number>()
  let timer: NodeJS.Timeout | undefined
  const look = () => {
    const zombies = linux.reapableChildren()
    for (const pid of zombies) if (suspects.has(pid)) linux.waitForChild(pid)
    suspects = new Set(zombies.filter((pid) => !suspects.has(pid)))
    timer = suspects.size > 0 ? setTimeout(look, settleMs).unref() : undefined
  }
  process.on('SIGCHLD', () => {
    timer ??= setTimeout(look, settleMs).unref()
  })
}
