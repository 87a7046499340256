/**
 * The daemon takes in the orphans of its children (commands in containers whose runtime was killed, containers whose monitor
 * was killed) and reaps them: not every host has a PID 1 that does so quickly, and a zombie keeps its cgroup busy.
 */
import type { Linux } from '#linux/linux.ts'

/** Many children end at once; libuv collects its own in the same turn of the event loop. */
const settleMs = 100

/** Call once, before the first child is started. */
export function adoptOrphans(linux: Linux): void {
  linux.becomeSubreaper()
  const own = linux.watchOwnChildren()
  let isDue = false
  const look = () => {
    isDue = false
    linux.reapOrphans(own.pids())
  }
  process.on('SIGCHLD', () => {
    if (!isDue) setTimeout(look, settleMs).unref()
    isDue = true
  })
}
