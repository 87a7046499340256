/** A daemon that gets little memory or little of the processors: rows R8, R13. */

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { useWorld } from '../harness.ts'
import { imageSpec } from '../image-spec.ts'
import { makeImage, makeLayer, pushImage } from '../oci-image.ts'
import { containerConfig, podConfig, removePod, startPod, until } from '../pods.ts'
import { assertNothingOf, IDLE } from './faulty-world.ts'

const MIB = 1024 * 1024
const lacks = (controller: string) =>
  !existsSync(`/sys/fs/cgroup/${controller}/cgroup.procs`) && `host lacks the v1 ${controller} controller`

describe('a daemon', () => {
  const world = useWorld()

  /** Runs `act` while the daemon and its children are in a cgroup with this limit. */
  const limited = async (
    controller: string,
    limits: Record<string, string>,
    act: (cgroup: string) => Promise<void>,
  ): Promise<void> => {
    const parent = join('/sys/fs/cgroup', controller)
    const cgroup = join(parent, `cricket-e2e-scarce-${process.pid}`)
    await mkdir(cgroup)
    try {
      for (const [file, value] of Object.entries(limits)) await writeFile(join(cgroup, file), value)
      await writeFile(join(cgroup, 'cgroup.procs'), String(world.runtime.pid))
      await act(cgroup)
    } finally {
      await until('the cgroup is empty', 30_000, async () => {
        const pids = (await readFile(join(cgroup, 'cgroup.procs'), 'utf8')).split('\n').filter(Boolean)
        for (const pid of pids) await writeFile(join(parent, 'cgroup.procs'), pid).catch(() => {})
        return pids.length === 0 || undefined
      })
      await rmdir(cgroup)
    }
  }

  it('R8: with 256 MiB pulls twenty images at once', { skip: lacks('memory') }, async () => {
    const images = Array.from({ length: 20 }, (_, n) => `many-${n}`)
    for (const name of images) {
      const layers = [1, 2].map((n) =>
        makeLayer([{ path: `file-${n}`, content: Buffer.concat([randomBytes(MIB), Buffer.alloc(15 * MIB)]) }]),
      )
      await pushImage(world.registry.url, name, '1', makeImage(await Promise.all(layers)))
    }
    await limited('memory', { 'memory.limit_in_bytes': String(256 * MIB) }, async (cgroup) => {
      const pull = (name: string) =>
        world.cri.images.pullImage({ image: imageSpec(`${world.registry.host}/${name}:1`) }, { timeoutMs: 120_000 })
      await Promise.all(images.map(pull))
      assert.match(await readFile(join(cgroup, 'memory.oom_control'), 'utf8'), /^oom_kill 0$/m)
    })
  })

  it('R13: with a twentieth of a processor starts and ends a pod all the same', { skip: lacks('cpu') }, async () => {
    await limited('cpu', { 'cpu.cfs_period_us': '100000', 'cpu.cfs_quota_us': '5000' }, async () => {
      const pod = await startPod(
        world.cri,
        await podConfig(world.site, 'slow'),
        containerConfig('main', world.image, IDLE),
      )
      const { stdout } = await world.cri.runtime.execSync({
        containerId: pod.containerId,
        cmd: ['echo', 'there'],
        timeout: 60n,
      })
      assert.equal(Buffer.from(stdout).toString(), 'there\n')
      await removePod(world.cri, pod.sandboxId)
    })
    await assertNothingOf(world)
  })
})
