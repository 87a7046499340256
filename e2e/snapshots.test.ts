/** Where and how containers get their root file systems, as an operator can choose; and what the kubelet is told of the disk. */

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import type { FilesystemUsage } from '#proto/generated/api.ts'
import { useWorld, type World } from './harness.ts'
import { imageSpec } from './image-spec.ts'
import { isPeer } from './peer.ts'
import { containerConfig, podConfig, removePod, startPod, until } from './pods.ts'

const IDLE = ['sleep', '1000']
const MIB = 2 ** 20

interface Used {
  readonly mountpoint: string | undefined
  readonly bytes: number
  readonly inodes: number
}

const used = ([usage, ...more]: readonly FilesystemUsage[]): Used => {
  assert.deepEqual(more, [])
  return {
    mountpoint: usage?.fsId?.mountpoint,
    bytes: Number(usage?.usedBytes?.value),
    inodes: Number(usage?.inodesUsed?.value),
  }
}

const fsInfo = async ({ cri }: World): Promise<{ images: Used; containers: Used }> => {
  const { imageFilesystems, containerFilesystems } = await cri.images.imageFsInfo({})
  return { images: used(imageFilesystems), containers: used(containerFilesystems) }
}

const run = async ({ cri }: World, containerId: string, script: string): Promise<string> => {
  const { stdout, stderr } = await cri.runtime.execSync({ containerId, cmd: ['sh', '-c', script], timeout: 60n })
  return Buffer.concat([stdout, stderr]).toString().trim()
}

const shm = '/dev/shm'
const hasTwoFilesystems = statSync(shm, { throwIfNoEntry: false })?.dev !== statSync(tmpdir()).dev
const skip = isPeer ? 'of cricket alone' : !hasTwoFilesystems && 'host lacks a second file system at /dev/shm'

describe('containers with a file system of their own', { skip }, () => {
  const directory = mkdtempSync(join(skip ? tmpdir() : shm, 'cricket-containers-'))
  const world = useWorld({ config: { sections: { storage: { containersRoot: directory } } } })
  after(() => rmSync(directory, { recursive: true, force: true }))

  it('are told apart from images, right from the start and without waiting for a walk', async () => {
    const empty = await fsInfo(world)
    assert.deepEqual([empty.containers.mountpoint, empty.containers.bytes], [directory, 0])
    assert.equal(empty.images.mountpoint, world.site.path('root', 'storage'))
    assert.ok(empty.images.bytes > 0 && empty.images.inodes > 0)

    const config = containerConfig('main', world.image, IDLE)
    const { containerId, sandboxId } = await startPod(world.cri, await podConfig(world.site, 'split'), config)
    const begun = await fsInfo(world)
    assert.deepEqual(begun.images, empty.images)
    assert.ok(begun.containers.inodes >= 1, 'a new container counts at once')

    assert.equal(await run(world, containerId, 'dd if=/dev/zero of=/big bs=1M count=8 2>/dev/null && echo y'), 'y')
    assert.equal(statSync(join(directory, 'rootfs', containerId, 'upper/big')).size, 8 * MIB)
    // After a restart all of it is measured anew, without being asked.
    await world.runtime.kill()
    await world.runtime.start()
    const grown = await until('it is measured', 60_000, async () => {
      const now = await fsInfo(world)
      return now.containers.bytes >= 8 * MIB ? now : undefined
    })
    assert.deepEqual(grown.images, empty.images)
    const { stats } = await world.cri.runtime.containerStats({ containerId })
    assert.equal(stats?.writableLayer?.fsId?.mountpoint, directory)
    assert.ok(Number(stats?.writableLayer?.usedBytes?.value) >= 8 * MIB)

    await removePod(world.cri, sandboxId)
    assert.equal((await fsInfo(world)).containers.bytes, 0)
    assert.deepEqual(await readdir(join(directory, 'rootfs')), [])
    await world.assertNothingLeft()
  })
})

describe('containers on a host without overlayfs', { skip: isPeer && 'of cricket alone' }, () => {
  const world = useWorld({ config: { sections: { storage: { driver: 'copy' } } } })

  it('run on copies of their image, with volumes, over a restart, and leave nothing', async () => {
    const mounts = [{ containerPath: '/volume', image: imageSpec(world.image), imageSubPath: 'bin', readonly: true }]
    const config = containerConfig('main', world.image, IDLE, { mounts })
    const { containerId, sandboxId } = await startPod(world.cri, await podConfig(world.site, 'copy'), config)
    assert.match(await run(world, containerId, 'grep " / " /proc/mounts; grep -c overlay /proc/mounts'), /\n0$/)
    assert.equal(
      await run(world, containerId, 'echo mine > /bin/mine && cat /bin/mine && ls /volume/mine'),
      'mine\nls: /volume/mine: No such file or directory',
    )
    assert.match(await run(world, containerId, 'echo x > /volume/busybox'), /Read-only/)
    const { containers } = await fsInfo(world)
    assert.ok(containers.bytes > 500_000, 'the copy is what the container takes')
    await world.runtime.kill()
    await world.runtime.start()
    assert.equal(await run(world, containerId, 'cat /bin/mine'), 'mine')
    await removePod(world.cri, sandboxId)
    assert.deepEqual(await readdir(world.site.path('root', 'storage', 'copies')), [])
    await world.assertNothingLeft()
  })
})

describe('containers on overlays with every option', { skip: isPeer && 'of cricket alone' }, () => {
  const storage = { driver: 'overlay', metacopy: true, redirectDir: true, volatile: true }
  const world = useWorld({ config: { sections: { storage } } })

  it('run and are removed after the daemon was killed', async () => {
    const config = containerConfig('main', world.image, IDLE)
    const { containerId, sandboxId } = await startPod(world.cri, await podConfig(world.site, 'options'), config)
    assert.match(await run(world, containerId, 'grep " / " /proc/mounts'), /metacopy=on.*volatile/)
    assert.equal(await run(world, containerId, 'mv /home /house && echo x > /new && sync && cat /new'), 'x')
    await world.runtime.kill()
    await world.runtime.start()
    assert.equal(await run(world, containerId, 'cat /new'), 'x')
    await removePod(world.cri, sandboxId)
    await world.assertNothingLeft()
  })
})
