/** Where monitors live and what they send where, as configured. */

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readdir, readFile, rmdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { after, describe, it } from 'node:test'
import { useWorld } from './harness.ts'
import { processesOf } from './leftovers.ts'
import { containerConfig, podConfig, removePod, startPod, untilExited } from './pods.ts'

const cgroup = `/cricket-e2e-monitors-${process.pid}`

describe('monitors with a cgroup of their own and the journal', () => {
  const world = useWorld({ config: { sections: { monitor: { cgroup, journal: true } } } })
  // It is everybody's, so the daemon leaves it; empty only once the daemon and its spare monitor have gone.
  after(async () => {
    const hierarchies = await readdir('/sys/fs/cgroup')
    for (const each of ['', ...hierarchies]) await rmdir(join('/sys/fs/cgroup', each, cgroup)).catch(() => {})
  })

  it('live in that cgroup, in every hierarchy, and not in the daemon’s; a restart of the daemon finds them', async () => {
    const command = ['sh', '-c', 'echo hello; sleep 4']
    const pod = await startPod(
      world.cri,
      await podConfig(world.site, 'placed'),
      containerConfig('main', world.image, command),
    )
    const isMonitor = ({ name }: { name: string }) =>
      name.split(' ').some((word) => basename(word) === pod.containerId) && !name.includes('runc')
    const [monitor] = (await processesOf(world.site, [world.runtime.pid])).filter(isMonitor)
    assert.ok(monitor)
    const lines = (await readFile(`/proc/${monitor.pid}/cgroup`, 'utf8')).trim().split('\n')
    assert.ok(
      lines.every((line) => line.endsWith(`:${cgroup}`)),
      lines.join(' '),
    )
    await world.runtime.stop()
    await world.runtime.start()
    await untilExited(world.cri, pod.containerId)
    // Where there is a journal it has taken the line.
    const says = /Output of a container was lost/.test(await world.runtime.logTail())
    assert.equal(says, !existsSync('/run/systemd/journal/socket'))
    await removePod(world.cri, pod.sandboxId)
    await world.assertNothingLeft()
  })
})
