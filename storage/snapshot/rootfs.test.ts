/** Root file systems over their whole life, by each driver. */
import assert from 'node:assert/strict'
import { closeSync, existsSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { linux } from '#linux/linux.ts'
import { recordLinux } from '#linux/recording-linux.ts'
import { isKind } from '#proto/errors.ts'
import { archive, dir, file } from '../tar/testing/tarsmith.ts'
import { describeTree, diffIdOf, type TemporaryOptions, temporaryStorage } from '../testing/temporary-storage.ts'

const base = archive(dir('./', { mode: 0o751, uid: 7 }), dir('etc'), file('etc/passwd', 'root'))
const app = archive(dir('app'), file('app/run', '#!'))

const namesIn = (...path: string[]): string[] => readdirSync(join(...path))

for (const driver of ['overlay', 'copy'] as const)
  describe(`a rootfs by ${driver}`, () => {
    const temporaryOf = (t: TestContext, options: TemporaryOptions = {}) =>
      temporaryStorage(t, { ...options, snapshots: { driver } })

    const withLayers = async (t: TestContext, fake = linux) => {
      const temporary = await temporaryOf(t, { linux: fake })
      const layers = [(await temporary.unpack(base)).diffId, (await temporary.unpack(app)).diffId]
      return { ...temporary, temporary, layers }
    }

    it('shows all layers, is writable, leaves the layers alone, and counts what was written', async (t) => {
      const { layers, mountpoint, storage } = await withLayers(t)
      const target = mountpoint('c')
      const before = storage.layers.list().map(({ path }) => describeTree(path))
      await storage.rootfs.create({ id: 'c', layers, mountpoint: target })
      assert.deepEqual(describeTree(target), [
        '. 0751 7:0 dir',
        './app 0755 0:0 dir',
        './app/run 0644 0:0 "#!"',
        './etc 0755 0:0 dir',
        './etc/passwd 0644 0:0 "root"',
      ])
      writeFileSync(join(target, 'etc/passwd'), 'x'.repeat(10_000))
      rmSync(join(target, 'app'), { recursive: true })
      const usage = await storage.rootfs.measure('c')
      // Overlayfs has a whiteout for what was removed.
      assert.equal(usage.inodes, driver === 'overlay' ? 4 : 3)
      assert.ok(usage.bytes >= 12_288)
      assert.deepEqual(storage.rootfs.usageOf('c'), usage)
      const { bytes, inodes } = usage
      assert.deepEqual(storage.usage().containers, { mountpoint: storage.root, bytes, inodes })
      assert.deepEqual(
        storage.layers.list().map(({ path }) => describeTree(path)),
        before,
      )
    })

    it('is unmounted and removed as often as one likes', async (t) => {
      const { layers, mountpoint, root, storage } = await withLayers(t)
      const target = mountpoint('c')
      await storage.rootfs.create({ id: 'c', layers, mountpoint: target })
      await storage.rootfs.unmount('c')
      await storage.rootfs.unmount('c')
      assert.deepEqual(namesIn(target), [])
      await storage.rootfs.remove('c')
      await storage.rootfs.remove('c')
      await storage.rootfs.unmount('unknown')
      await storage.trashEmptied()
      assert.deepEqual([storage.rootfs.list(), namesIn(root, 'rootfs'), namesIn(root, 'trash')], [[], [], []])
      assert.equal(existsSync(target), false)
    })

    it('is removed although somebody still has a file open in it', async (t) => {
      const { layers, mountpoint, root, storage } = await withLayers(t)
      const target = mountpoint('c')
      await storage.rootfs.create({ id: 'c', layers, mountpoint: target })
      const fd = openSync(join(target, 'app/run'), 'r')
      await storage.rootfs.remove('c')
      assert.equal(linux.isMountpoint(target), false)
      closeSync(fd)
      await storage.trashEmptied()
      assert.deepEqual(namesIn(root, 'trash'), [])
    })

    it('keeps what was written over restart and reboot', async (t) => {
      const { layers, mountpoint, temporary } = await withLayers(t)
      const target = mountpoint('c')
      await temporary.storage.rootfs.create({ id: 'c', layers, mountpoint: target })
      writeFileSync(join(target, 'note'), 'kept')
      await temporary.reopen()
      assert.deepEqual(temporary.storage.rootfs.list(), ['c'])
      await temporary.storage.rootfs.mount('c', target)
      await temporary.storage.rootfs.unmount('c')
      const elsewhere = mountpoint('after-reboot')
      await temporary.storage.rootfs.mount('c', elsewhere)
      assert.equal(readFileSync(join(elsewhere, 'note'), 'utf8'), 'kept')
      await temporary.storage.rootfs.remove('c')
      assert.equal(linux.isMountpoint(elsewhere), false)
    })

    it('leaves nothing when it cannot be mounted', async (t) => {
      const recording = recordLinux()
      const { layers, mountpoint, root, storage } = await withLayers(t, recording.linux)
      recording.failCall(driver === 'overlay' ? 'mountOverlay' : 'bindTree', 1, 'ENOMEM')
      const create = () => storage.rootfs.create({ id: 'c', layers, mountpoint: mountpoint('c') })
      await assert.rejects(create, (error) => isKind(error, 'resource-exhausted'))
      await storage.trashEmptied()
      assert.deepEqual([storage.rootfs.list(), namesIn(root, 'rootfs'), namesIn(root, 'trash')], [[], [], []])
      assert.equal(existsSync(mountpoint('c')), false)
      await create()
    })

    it('of a missing layer, a known id, an impossible id is refused', async (t) => {
      const { layers, mountpoint, storage } = await withLayers(t)
      const target = mountpoint('c')
      const missing = diffIdOf(Buffer.from('missing'))
      await assert.rejects(storage.rootfs.create({ id: 'c', layers: [missing], mountpoint: target }), (error) =>
        isKind(error, 'not-found'),
      )
      await storage.rootfs.create({ id: 'c', layers, mountpoint: target })
      await assert.rejects(storage.rootfs.create({ id: 'c', layers, mountpoint: target }), (error) =>
        isKind(error, 'already-exists'),
      )
      for (const id of ['', '.', '..', '../x', 'a/b', '-x', 'x'.repeat(129)])
        await assert.rejects(storage.rootfs.create({ id, layers, mountpoint: target }), (error) =>
          isKind(error, 'invalid-argument'),
        )
      await assert.rejects(storage.rootfs.measure('unknown'), (error) => isKind(error, 'not-found'))
    })

    it('without layers is an empty directory one can write to', async (t) => {
      const { mountpoint, storage } = await temporaryOf(t)
      await storage.rootfs.create({ id: 'c', layers: [], mountpoint: mountpoint('c') })
      writeFileSync(join(mountpoint('c'), 'f'), 'x')
      assert.deepEqual(describeTree(mountpoint('c')), ['. 0755 0:0 dir', './f 0644 0:0 "x"'])
    })

    it('can be read-only, of any number of layers', async (t) => {
      const { layers, mountpoint, storage } = await withLayers(t)
      for (const [id, stack] of [
        ['none', []],
        ['one', layers.slice(0, 1)],
        ['two', layers],
      ] as const) {
        await storage.rootfs.create({ id, layers: stack, mountpoint: mountpoint(id), readonly: true })
        assert.throws(() => writeFileSync(join(mountpoint(id), 'f'), 'x'), { code: 'EROFS' })
        assert.equal(describeTree(mountpoint(id))[0], id === 'none' ? '. 0755 0:0 dir' : '. 0751 7:0 dir')
      }
    })

    it('of the same layer twice is of that layer', async (t) => {
      const { layers, mountpoint, storage } = await withLayers(t)
      await storage.rootfs.create({ id: 'c', layers: [...layers, ...layers], mountpoint: mountpoint('c') })
      assert.deepEqual(namesIn(mountpoint('c')).sort(), ['app', 'etc'])
    })

    it('of more layers than a page of options holds is mounted (C6)', async (t) => {
      const { mountpoint, storage, unpack } = await temporaryOf(t)
      const layers = await Promise.all(
        Array.from({ length: 130 }, async (_, i) => (await unpack(archive(file(`f${i}`)))).diffId),
      )
      await storage.rootfs.create({ id: 'c', layers, mountpoint: mountpoint('c') })
      assert.equal(namesIn(mountpoint('c')).length, 130)
    })

    it('with a damaged record can still be listed and removed', async (t) => {
      const { layers, mountpoint, temporary } = await withLayers(t)
      await temporary.storage.rootfs.create({ id: 'c', layers, mountpoint: mountpoint('c') })
      await temporary.storage.rootfs.unmount('c')
      writeFileSync(join(temporary.root, 'rootfs/c/record.json'), '')
      await temporary.reopen()
      const { rootfs } = temporary.storage
      assert.deepEqual(rootfs.list(), ['c'])
      await assert.rejects(rootfs.mount('c', mountpoint('c')), (error) => isKind(error, 'not-found'))
      await rootfs.remove('c')
      assert.deepEqual(rootfs.list(), [])
    })

    it('with a damaged record keeps all that it may stand on, until it is removed', async (t) => {
      const { layers, mountpoint, temporary } = await withLayers(t)
      const seen = (): string => readFileSync(join(mountpoint('v'), 'etc/passwd'), 'utf8')
      await temporary.storage.rootfs.create({ id: 'v', layers, mountpoint: mountpoint('v'), readonly: true })
      writeFileSync(join(temporary.root, 'rootfs/v/record.json'), '')
      await temporary.reopen()
      await temporary.storage.collectGarbage({ keep: new Set() })
      await temporary.storage.trashEmptied()
      assert.equal(seen(), 'root')
      linux.unmount(mountpoint('v'), { detach: true })
      await temporary.storage.rootfs.remove('v')
      await temporary.storage.collectGarbage({ keep: new Set() })
      assert.deepEqual(temporary.storage.layers.list(), [])
      assert.deepEqual(namesIn(temporary.root, 'copies'), [])
    })
  })
