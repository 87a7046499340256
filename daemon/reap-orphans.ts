/**
 * The daemon takes in the orphans of its children (commands in containers whose runtime was killed, containers whose monitor
 * was killed) and reaps them: not every host has a PID 1 that does so quickly, and a zombie keeps its cgroup busy.
 */
import { AdoptedChildren } from '#linux/adopted-children.ts'
import type { Linux } from '#linux/linux.ts'

/** Many children end at once; libuv collects its own in the same turn of the event loop. */
const settleMs = 100

/** Call once, before the first child is started. @returns those of them that somebody waits for */
export function adoptOrphans(linux: Linux): AdoptedChildren {
  const children = new AdoptedChildren()
  linux.becomeSubreaper()
  const own = linux.watchOwnChildren()
  let isDue = false
  const look = () => {
    isDue = false
    children.reap(own.pids())
  }
  process.on('SIGCHLD', () => {
    children.look()
    if (!isDue) setTimeout(look, settleMs).unref()
    isDue = true
  })
  return children
}
