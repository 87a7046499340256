/** Containers that write to a file system of their own, and what becomes of them when that one is full, broken or not theirs alone. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { linux } from '#linux/linux.ts'
import { scratch } from '#linux/testing/scratch.ts'
import { isKind } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import { openStorage } from '../storage.ts'
import { archive, dir, file } from '../tar/testing/tarsmith.ts'
import { type TemporaryOptions, temporaryStorage } from '../testing/temporary-storage.ts'

const image = archive(dir('./', { uid: 3 }), file('f', 'x'.repeat(200_000)))
const idMap = { uids: { hostId: 300_000, size: 65_536 }, gids: { hostId: 300_000, size: 65_536 } }

/** A file system for containers alone, which goes with the test. */
const ownFilesystem = (t: TestContext, data = ''): string => {
  const directory = join(scratch(t), 'containers')
  mkdirSync(directory)
  linux.mount({ source: 'tmpfs', target: directory, type: 'tmpfs', data })
  return directory
}

for (const driver of ['overlay', 'copy'] as const)
  describe(`a file system for containers, by ${driver}`, () => {
    const open = async (t: TestContext, data = '', options: TemporaryOptions = {}) => {
      const containers = ownFilesystem(t, data)
      const temporary = await temporaryStorage(t, { ...options, containers, snapshots: { driver } })
      const { diffId } = await temporary.unpack(image)
      const create = (id: string, more: object = {}) =>
        temporary.storage.rootfs.create({ id, layers: [diffId], mountpoint: temporary.mountpoint(id), ...more })
      return { temporary, containers, create }
    }

    it('has all that they write, is reported apart, and is given back', async (t) => {
      const { temporary, containers, create } = await open(t)
      const { storage, mountpoint, root } = temporary
      const images = storage.usage().images
      await create('c')
      assert.equal(statSync(mountpoint('c')).uid, 3)
      writeFileSync(join(mountpoint('c'), 'new'), 'y'.repeat(100_000))
      assert.equal(statSync(join(containers, 'rootfs/c/upper/new')).size, 100_000)
      await storage.rootfs.measure('c')
      const usage = storage.usage()
      assert.deepEqual(usage.images, images)
      assert.deepEqual([usage.images.mountpoint, usage.containers.mountpoint], [root, containers])
      assert.ok(usage.containers.bytes >= 100_000)
      await storage.rootfs.remove('c')
      await storage.trashEmptied()
      assert.deepEqual(storage.usage().containers, { mountpoint: containers, bytes: 0, inodes: 0 })
      assert.deepEqual([readdirSync(join(containers, 'rootfs')), readdirSync(join(containers, 'trash'))], [[], []])
    })

    it('keeps what was written over a restart, and clears what was half made', async (t) => {
      const { temporary, containers, create } = await open(t)
      await create('c')
      writeFileSync(join(temporary.mountpoint('c'), 'note'), 'kept')
      mkdirSync(join(containers, 'temp/rootfs-half/upper'), { recursive: true })
      await temporary.reopen()
      assert.deepEqual(temporary.storage.rootfs.list(), ['c'])
      assert.equal(readFileSync(join(temporary.mountpoint('c'), 'note'), 'utf8'), 'kept')
      assert.deepEqual(readdirSync(join(containers, 'temp')), [])
    })

    it('has containers and volumes with other owners, too', async (t) => {
      const { temporary, create } = await open(t)
      if (!temporary.storage.mapsIds) return t.skip('host lacks id-mapped mounts')
      await create('c', { idMap })
      await create('v', { idMap, readonly: true })
      for (const id of ['c', 'v']) {
        assert.equal(statSync(temporary.mountpoint(id)).uid, 300_003)
        assert.equal(statSync(join(temporary.mountpoint(id), 'f')).uid, 300_000)
      }
      writeFileSync(join(temporary.mountpoint('c'), 'f'), 'new')
      assert.equal(statSync(join(temporary.mountpoint('c'), 'f')).uid, 300_000)
      assert.throws(() => writeFileSync(join(temporary.mountpoint('v'), 'f'), 'new'), { code: 'EROFS' })
    })

    for (const [what, data] of [
      ['bytes', 'size=1m'],
      ['inodes', 'nr_inodes=60'],
    ] as const)
      it(`that has no ${what} left refuses containers, leaves nothing of them, and goes on when it has`, async (t) => {
        const { temporary, containers, create } = await open(t, data)
        const filling = join(containers, 'filling')
        mkdirSync(filling)
        assert.throws(
          () => {
            for (let i = 0; ; i++) writeFileSync(join(filling, String(i)), what === 'bytes' ? 'x'.repeat(50_000) : '')
          },
          { code: 'ENOSPC' },
        )
        // Tmpfs counts pages: a few may be left for small files.
        for (let i = 0; i < 100; i++) {
          try {
            writeFileSync(join(filling, `small-${i}`), 'x')
          } catch {
            break
          }
        }
        await assert.rejects(create('c', { image: 'example/app:1' }), (error) => {
          assert.ok(isKind(error, 'resource-exhausted'), String(error))
          assert.match(String(error), /rootfs "c" of image "example\/app:1"/)
          return true
        })
        assert.deepEqual(temporary.storage.rootfs.list(), [])
        assert.equal(existsSync(temporary.mountpoint('c')), false)
        rmSync(filling, { recursive: true })
        await create('c')
        await temporary.storage.rootfs.remove('c')
        await temporary.storage.trashEmptied()
        for (const name of ['rootfs', 'temp', 'trash']) assert.deepEqual(readdirSync(join(containers, name)), [], name)
      })

    it('that became read-only still lists and unmounts, and says why it cannot do more', async (t) => {
      const { temporary, containers, create } = await open(t)
      const { mountpoint, storage } = temporary
      await create('c')
      // Over itself: the storage's own lock file is open for writing, so it cannot be changed beneath it.
      linux.bindMount(containers, containers, { readonly: true })
      await assert.rejects(create('d'), (error) => isKind(error, 'unavailable') && /EROFS/.test(String(error)))
      assert.deepEqual(storage.rootfs.list(), ['c'])
      await storage.rootfs.unmount('c')
      assert.equal(linux.isMountpoint(mountpoint('c')), false)
      await assert.rejects(storage.rootfs.remove('c'), { code: 'EROFS' })
      linux.unmount(containers, { detach: true })
      await storage.rootfs.remove('c')
      assert.deepEqual(storage.rootfs.list(), [])
    })
  })

describe('a directory for containers', () => {
  it('belongs to one storage at a time', async (t) => {
    const containers = ownFilesystem(t)
    await temporaryStorage(t, { containers })
    const root = join(scratch(t), 'second')
    await assert.rejects(
      openStorage({ root, containers, linux, log: silentLog }),
      (error) => isKind(error, 'failed-precondition') && String(error).includes(containers),
    )
    // The first lock was given back.
    const storage = await openStorage({ root, linux, log: silentLog })
    await storage.close()
  })

  it('on the same file system is reported as the same', async (t) => {
    const containers = join(scratch(t), 'containers')
    const temporary = await temporaryStorage(t, { containers })
    const { images, containers: own } = temporary.storage.usage()
    if (statSync(containers).dev !== statSync(temporary.root).dev) return t.skip('host has two file systems here')
    assert.equal(own.mountpoint, images.mountpoint)
  })
})
