/** Every step of making and mounting a root file system fails in turn: nothing is left mounted or on the disk, and the next try works. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { type Linux, linux } from '#linux/linux.ts'
import { recordLinux } from '#linux/recording-linux.ts'
import { scratch } from '#linux/testing/scratch.ts'
import { isKind } from '#proto/errors.ts'
import type { DiffId } from '../digest.ts'
import { archive, dir, file } from '../tar/testing/tarsmith.ts'
import { temporaryStorage } from '../testing/temporary-storage.ts'
import type { SnapshotOptions } from './open-drivers.ts'

const idMap = { uids: { hostId: 300_000, size: 65_536 }, gids: { hostId: 300_000, size: 65_536 } }
const unable: Linux = { ...linux, canMapIds: () => false }

interface Way {
  readonly snapshots: Partial<SnapshotOptions>
  readonly base?: Linux
  readonly isMapped?: boolean
  readonly readonly?: boolean
  /** What it calls to make and mount one. */
  readonly calls: readonly (keyof Linux)[]
}

const ways: Record<string, Way> = {
  overlay: { snapshots: { driver: 'overlay' }, calls: ['mountOverlay', 'setPropagation'] },
  'overlay on mapped layers': {
    snapshots: { driver: 'overlay' },
    isMapped: true,
    calls: ['bindTree', 'mountOverlay', 'setPropagation'],
  },
  'overlay on copies of layers': {
    snapshots: { driver: 'overlay', copyForUserNamespaces: true },
    base: unable,
    isMapped: true,
    calls: ['syncfs', 'mountOverlay', 'setPropagation'],
  },
  'read-only overlay': { snapshots: { driver: 'overlay' }, readonly: true, calls: ['mountOverlay', 'setPropagation'] },
  copy: { snapshots: { driver: 'copy' }, calls: ['bindTree', 'remount', 'setPropagation'] },
  'read-only copy': {
    snapshots: { driver: 'copy' },
    readonly: true,
    calls: ['syncfs', 'bindTree', 'remount', 'setPropagation'],
  },
}

const mountsBelow = (directory: string): string[] =>
  linux.readMountInfo().flatMap(({ mountpoint }) => (mountpoint.startsWith(`${directory}/`) ? [mountpoint] : []))

for (const [name, { snapshots, base = linux, isMapped = false, readonly = false, calls }] of Object.entries(ways)) {
  const open = async (t: TestContext) => {
    const recording = recordLinux(base)
    const temporary = await temporaryStorage(t, { linux: recording.linux, snapshots })
    const stack = [archive(dir('d'), file('d/f', 'x')), archive(file('d/g', 'y'))]
    const layers: DiffId[] = []
    for (const layer of stack) layers.push((await temporary.unpack(layer)).diffId)
    const mountpoint = temporary.mountpoint('c')
    const create = () =>
      temporary.storage.rootfs.create({ id: 'c', layers, mountpoint, readonly, ...(isMapped && { idMap }) })
    return { recording, temporary, mountpoint, create }
  }

  describe(`${name}, when it fails`, () => {
    for (const call of calls)
      for (const [code, kind] of [
        ['EIO', 'unavailable'],
        ['ENOSPC', 'resource-exhausted'],
      ] as const)
        it(`with ${code} at ${call}, leaves nothing`, async (t) => {
          const { recording, temporary, mountpoint, create } = await open(t)
          const { root, storage } = temporary
          // One is for the fix-up, which stays: it belongs to the stack.
          if (call === 'syncfs') {
            await create()
            await storage.rootfs.remove('c')
          }
          recording.failCall(call, 1, code)
          await assert.rejects(create(), (error) => {
            assert.ok(isKind(error, kind), String(error))
            assert.match(String(error), /Cannot create rootfs "c"/)
            return true
          })
          await storage.trashEmptied()
          assert.deepEqual([mountsBelow(temporary.directory), storage.rootfs.list()], [[], []])
          assert.equal(existsSync(mountpoint), false)
          for (const place of ['rootfs', 'temp', 'trash', 'copies', 'mapped'])
            assert.deepEqual(readdirSync(join(root, place)), [], place)
          await create()
          assert.deepEqual(readdirSync(join(mountpoint, 'd')).sort(), ['f', 'g'])
        })
  })
}

describe('a mount', () => {
  for (const driver of ['overlay', 'copy'] as const) {
    it(`by ${driver} is private, also below a mount that others share`, async (t) => {
      const temporary = await temporaryStorage(t, { snapshots: { driver } })
      const shared = join(scratch(t), 'shared')
      mkdirSync(shared)
      linux.mountTmpfs(shared)
      linux.setPropagation(shared, 'shared')
      const { diffId } = await temporary.unpack(archive(dir('d')))
      const mountpoint = join(shared, 'c')
      for (const readonly of [false, true]) {
        await temporary.storage.rootfs.create({ id: 'c', layers: [diffId], mountpoint, readonly })
        const found = linux.readMountInfo().filter((mount) => mount.mountpoint === mountpoint)
        assert.deepEqual(
          found.map(({ propagation }) => propagation),
          [[]],
        )
        await temporary.storage.rootfs.remove('c')
        assert.deepEqual(mountsBelow(shared), [])
      }
    })

    it(`by ${driver} has the flags that were asked for`, async (t) => {
      const temporary = await temporaryStorage(t, { snapshots: { driver } })
      const { diffId } = await temporary.unpack(archive(dir('d')))
      const mountpoint = temporary.mountpoint('c')
      const options = ['nosuid', 'nodev', 'noexec']
      await temporary.storage.rootfs.create({ id: 'c', layers: [diffId], mountpoint, readonly: true, options })
      const found = linux.readMountInfo().find((mount) => mount.mountpoint === mountpoint)
      for (const option of ['ro', ...options]) assert.ok(found?.options.includes(option), option)
    })
  }

  it('that is busy is detached, and that is said', async (t) => {
    const said: string[] = []
    const silent = { debug: () => {}, info: () => {}, error: () => {} }
    const log = { ...silent, warn: (message: string) => void said.push(message), child: () => log }
    const temporary = await temporaryStorage(t, { log })
    const { diffId } = await temporary.unpack(archive(dir('d')))
    const mountpoint = temporary.mountpoint('c')
    await temporary.storage.rootfs.create({ id: 'c', layers: [diffId], mountpoint })
    linux.bindMount(mountpoint, join(mountpoint, 'd'))
    await temporary.storage.rootfs.unmount('c')
    assert.deepEqual([mountsBelow(temporary.directory), said], [[], ['Rootfs is busy, detaching it']])
  })
})
