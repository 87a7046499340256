/** What is done after a creation that failed. */
import { isAbsolute } from 'node:path'
import { removeCgroup } from '#linux/cgroup.ts'
import type { MonitorOptions } from '#proto/conmon.ts'
import { attempt } from './attempt.ts'
import { killDescendants } from './kill-descendants.ts'
import type { Report } from './report.ts'
import type { Runtime } from './runtime.ts'

const killTimeoutMs = 5000
const deleteTimeoutMs = 10_000

/** After a failed create: whatever the runtime has left behind, first as the runtime knows it, then as the kernel does. */
export async function cleanUp(options: MonitorOptions, engine: Runtime, report: Report): Promise<void> {
  const { cgroupPath, runtime } = options
  if (!(await engine.deleteForced(deleteTimeoutMs))) report('the runtime could not delete the container')
  await attempt(report, 'kill what is left', () => killDescendants(killTimeoutMs))
  // systemd removes its scopes itself.
  if (runtime.systemdCgroup || !isAbsolute(cgroupPath) || cgroupPath === '/') return
  await attempt(report, 'remove the cgroup', () => removeCgroup(cgroupPath))
}
