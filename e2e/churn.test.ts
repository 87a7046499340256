/** Many pods, one after another: whatever one pod leaves, a hundred leave a hundred times. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { relative } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { useWorld } from './harness.ts'
import { containerConfig, podConfig, removePod, startPod, untilExited } from './pods.ts'
import { memoryOf } from './process-memory.ts'

const PODS = 100

describe('a hundred pods, created and removed in a row', () => {
  const world = useWorld()

  const onePod = async (name: string) => {
    const sandbox = await podConfig(world.site, name)
    const pod = await startPod(world.cri, sandbox, containerConfig('main', world.image, ['echo', name]))
    await untilExited(world.cri, pod.containerId)
    await removePod(world.cri, pod.sandboxId)
  }

  /** Every path in the daemon's two directories. */
  const files = async () => {
    const dirs = [world.site.path('root'), world.site.path('state')]
    const entries = await Promise.all(dirs.map((dir) => readdir(dir, { recursive: true, withFileTypes: true })))
    return entries
      .flat()
      .map(({ parentPath, name }) => `${relative(world.site.dir, parentPath)}/${name}`)
      .sort()
  }

  const openFiles = async () => (await readdir(`/proc/${world.runtime.pid}/fd`)).length
  const threads = async () => (await readdir(`/proc/${world.runtime.pid}/task`)).length
  /** Command lines. */
  const childrenOf = async () => {
    const pids = await readFile(`/proc/${world.runtime.pid}/task/${world.runtime.pid}/children`, 'utf8')
    return pids.split(' ').flatMap((pid) => (pid.trim() ? [readFileSync(`/proc/${pid}/cmdline`, 'utf8')] : []))
  }

  it('leave no mount, namespace, process, cgroup, address or file', async (t) => {
    for (let n = 0; n < 5; n++) await onePod(`warm-${n}`)
    await sleep(1000)
    const before = { files: await files(), open: await openFiles(), memory: await memoryOf(world.runtime.pid) }
    for (let n = 0; n < PODS; n++) await onePod(`pod-${n}`)
    await world.assertNothingLeft()
    await sleep(1000)
    const after = { files: await files(), open: await openFiles(), memory: await memoryOf(world.runtime.pid) }
    assert.deepEqual(after.files, before.files)
    assert.ok(after.open <= before.open + 3, `open files: ${before.open} before, ${after.open} after`)
    const children = await childrenOf()
    assert.ok(
      children.length <= 1 && children.every((line) => line.includes('--spare')),
      `the daemon has no child but a monitor in waiting: ${children}`,
    )
    const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`
    const { privateDirty: dirtyBefore } = before.memory
    const { privateDirty: dirtyAfter } = after.memory
    t.diagnostic(`daemon, private dirty: ${megabytes(dirtyBefore)} before, ${megabytes(dirtyAfter)} after ${PODS} pods`)
    t.diagnostic(`daemon: ${after.open} open files, ${await threads()} threads`)
    // Generous: a leak of one pod's worth of state per pod would be far above it.
    assert.ok(dirtyAfter < dirtyBefore + 50e6, 'the daemon does not grow without end')
  })
})
