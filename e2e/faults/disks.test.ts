/** Disks of the daemon that are full, out of inodes, or read-only after an error: rows R1, R3, R4, R5. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, rm, statfs, writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { afterEach, describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { ContainerState, PodSandboxState } from '#proto/generated/api.ts'
import { CriError } from '../cri-client.ts'
import { useWorld } from '../harness.ts'
import { imageSpec } from '../image-spec.ts'
import { makeImage, makeLayer, pushImage } from '../oci-image.ts'
import { containerConfig, containerStatus, podConfig, removeAllPods, startPod, until } from '../pods.ts'
import { assertQuick, IDLE } from './faulty-world.ts'

const MIB = 1024 * 1024
const lacksExt4 =
  (!existsSync('/usr/sbin/mkfs.ext4') || !existsSync('/dev/loop-control')) && 'host lacks mkfs.ext4 or loop devices'

describe('a disk of the daemon', () => {
  const world = useWorld({ pulled: false })
  let mounted: 'root' | 'state' | undefined
  const root = () => world.site.path(mounted ?? 'root')
  const filling = () => `${root()}/filling`

  /** Until the test ends this directory of the daemon's is this file system. */
  const onDisk = async (which: 'root' | 'state', ...mount: string[]) => {
    await world.runtime.stop()
    mounted = which
    execFileSync('mount', [...mount, root()])
    await world.runtime.start()
    await world.cri.images.pullImage({ image: imageSpec(world.image) })
  }
  afterEach(async () => {
    if (!mounted) return
    if (!world.runtime.isRunning) await world.runtime.start()
    await removeAllPods(world.cri).catch(() => {})
    await world.runtime.stop()
    execFileSync('umount', [root()])
    mounted = undefined
    await world.runtime.start()
  })
  const bytesFree = async () => {
    const { bavail, bsize } = await statfs(root())
    return Number(bavail) * Number(bsize)
  }
  /** Takes all that is left; again for what others have given back meanwhile. */
  const fill = async () => {
    await mkdir(filling(), { recursive: true })
    const free = await bytesFree()
    if (free > 0) execFileSync('fallocate', ['-l', String(free), `${filling()}/${randomUUID()}`])
  }
  const ended = (containerId: string) =>
    until('the exit is told', 20_000, async () => {
      const told = await containerStatus(world.cri, containerId)
      return told.state === ContainerState.CONTAINER_EXITED ? told : undefined
    })
  const start = async (name: string, command = IDLE) =>
    startPod(world.cri, await podConfig(world.site, name), containerConfig('main', world.image, command))
  const newPod = async () => world.cri.runtime.runPodSandbox({ config: await podConfig(world.site, 'new') })
  const sandboxState = async (podSandboxId: string) =>
    (await world.cri.runtime.podSandboxStatus({ podSandboxId })).status?.state
  const restart = async () => {
    await world.runtime.kill()
    await world.runtime.start()
  }
  const stopAndRemove = async (podSandboxId: string) => {
    await world.cri.runtime.stopPodSandbox({ podSandboxId })
    await world.cri.runtime.removePodSandbox({ podSandboxId })
  }
  const toldAs = (code: status, words: RegExp) => (error: unknown) => {
    assert.ok(error instanceof CriError)
    assert.equal(error.code, code)
    assert.match(error.message, words)
    return true
  }

  it('R3: that is full hides no exit and keeps no pod; a new pod fails, with the path', async () => {
    await onDisk('root', '-t', 'tmpfs', '-o', 'size=48m', 'tmpfs')
    const ends = await start('ends', ['sh', '-c', 'sleep 2; exit 7'])
    const stays = await start('stays')
    await fill()
    assert.equal((await ended(ends.containerId)).exitCode, 7)
    await assert.rejects(
      newPod(),
      toldAs(status.RESOURCE_EXHAUSTED, /Cannot write "[^"]*\/root\/sandboxes\/[^"]*": ENOSPC/),
    )
    await assertQuick(world.cri)
    const { containerId, sandboxId } = stays
    await world.cri.runtime.stopContainer({ containerId, timeout: 1n })
    assert.equal((await containerStatus(world.cri, containerId)).exitCode, 137)
    await world.cri.runtime.stopPodSandbox({ podSandboxId: sandboxId })
    assert.equal(await sandboxState(sandboxId), PodSandboxState.SANDBOX_NOTREADY)
    // None of this could be written.
    await restart()
    assert.equal((await containerStatus(world.cri, ends.containerId)).exitCode, 7)
    assert.equal(await sandboxState(sandboxId), PodSandboxState.SANDBOX_NOTREADY)
    await stopAndRemove(sandboxId)
    await stopAndRemove(ends.sandboxId)
    await world.cri.images.removeImage({ image: imageSpec(world.image) })
    await rm(filling(), { recursive: true })
  })

  it('R3: of which only the state directory is full is named by what fails, and keeps nothing', async () => {
    await onDisk('state', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs')
    const ends = await start('ends', ['sh', '-c', 'sleep 2; exit 7'])
    const stays = await start('stays')
    await fill()
    assert.equal((await ended(ends.containerId)).exitCode, 7)
    await fill()
    await assert.rejects(start('new'), toldAs(status.RESOURCE_EXHAUSTED, /\/state\/.*ENOSPC/))
    await restart()
    await world.cri.runtime.stopContainer({ containerId: stays.containerId, timeout: 1n })
    for (const { id } of (await world.cri.runtime.listPodSandbox({})).items) await stopAndRemove(id)
    await rm(filling(), { recursive: true })
    await start('again')
  })

  it('R3: that has room again is written what it is owed', async () => {
    await onDisk('root', '-t', 'tmpfs', '-o', 'size=48m', 'tmpfs')
    const { containerId } = await start('ends', ['sh', '-c', 'sleep 1; exit 7'])
    await fill()
    await ended(containerId)
    const record = `${root()}/containers/${containerId}/status.json`
    const isWritten = () => execFileSync('cat', [record], { encoding: 'utf8' }).includes('"exited"')
    assert.equal(isWritten(), false)
    await rm(filling(), { recursive: true })
    await until('the exit is written', 30_000, async () => isWritten() || undefined)
  })

  it('R1: that is too small for an image keeps nothing of it, and what there was', async () => {
    await onDisk('root', '-t', 'tmpfs', '-o', 'size=24m', 'tmpfs')
    const { containerId } = await start('stays')
    const name = `${world.registry.host}/big:1`
    // Its layer says that it is small until it is unpacked.
    const layers = [await makeLayer([{ path: 'big', content: Buffer.alloc(40 * MIB) }])]
    await pushImage(world.registry.url, 'big', '1', makeImage(layers))
    const free = await bytesFree()
    const pull = () => world.cri.images.pullImage({ image: imageSpec(name) }, { timeoutMs: 60_000 })
    await assert.rejects(pull(), toldAs(status.RESOURCE_EXHAUSTED, /space/))
    await until('its room is given back', 10_000, async () => (await bytesFree()) > free - MIB || undefined)
    const { images } = await world.cri.images.listImages({})
    assert.deepEqual(
      images.flatMap((image) => image.repoTags),
      [world.image],
    )
    const { exitCode } = await world.cri.runtime.execSync({ containerId, cmd: ['true'], timeout: 10n })
    assert.equal(exitCode, 0)
    execFileSync('mount', ['-o', 'remount,size=120m', root()])
    await pull()
  })

  it('R1: that is smaller than what an image says of itself fetches none of it', async () => {
    await onDisk('root', '-t', 'tmpfs', '-o', 'size=24m', 'tmpfs')
    const layers = [await makeLayer([{ path: 'big', content: randomBytes(30 * MIB) }])]
    await pushImage(world.registry.url, 'random', '1', makeImage(layers))
    const pull = world.cri.images.pullImage({ image: imageSpec(`${world.registry.host}/random:1`) })
    await assert.rejects(pull, toldAs(status.RESOURCE_EXHAUSTED, /No space left/))
  })

  it('R5: that is out of inodes says so, and keeps no pod', async () => {
    await onDisk('root', '-t', 'tmpfs', '-o', 'size=48m,nr_inodes=400', 'tmpfs')
    const stays = await start('stays')
    await mkdir(filling(), { recursive: true })
    for (let i = 0; ; i++) {
      const full = await writeFile(`${filling()}/${i}`, '').then(
        () => false,
        () => true,
      )
      if (full) break
    }
    await assert.rejects(newPod(), toldAs(status.RESOURCE_EXHAUSTED, /no inodes left/))
    const layers = [await makeLayer([{ path: 'small', content: Buffer.from('x') }])]
    await pushImage(world.registry.url, 'small', '1', makeImage(layers))
    const pull = world.cri.images.pullImage({ image: imageSpec(`${world.registry.host}/small:1`) })
    await assert.rejects(pull, toldAs(status.RESOURCE_EXHAUSTED, /ENOSPC/))
    await stopAndRemove(stays.sandboxId)
    await rm(filling(), { recursive: true })
  })

  it('R4: that the kernel made read-only still lists, tells exits and stops; no daemon starts on it, but on another', {
    skip: lacksExt4,
  }, async () => {
    const file = world.site.path('disk')
    execFileSync('sh', ['-c', 'truncate -s 64M "$1" && mkfs.ext4 -q "$1"', 'sh', file])
    await onDisk('root', '-o', 'loop,errors=remount-ro', file)
    const ends = await start('ends', ['sh', '-c', 'sleep 2; exit 7'])
    const stays = await start('stays')
    const device = execFileSync('findmnt', ['-no', 'SOURCE', root()], { encoding: 'utf8' }).trim()
    await writeFile(`/sys/fs/ext4/${basename(device)}/trigger_fs_error`, '1')
    assert.equal((await ended(ends.containerId)).exitCode, 7)
    await assert.rejects(newPod(), toldAs(status.UNAVAILABLE, /EROFS/))
    await assertQuick(world.cri)
    await world.cri.runtime.stopContainer({ containerId: stays.containerId, timeout: 1n })
    for (const { sandboxId } of [stays, ends]) {
      await world.cri.runtime.stopPodSandbox({ podSandboxId: sandboxId })
      assert.equal(await sandboxState(sandboxId), PodSandboxState.SANDBOX_NOTREADY)
    }
    await world.runtime.kill()
    await assert.rejects(
      world.runtime.start(),
      /Cannot write to the directory "[^"]*root" \(configuration key root\): EROFS/,
    )
    execFileSync('umount', [root()])
    mounted = undefined
    await world.runtime.start()
  })
})
