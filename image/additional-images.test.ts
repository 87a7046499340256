/** Images of stores that are only read: used where they are, never changed, and missed with a clear word. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, type TestContext, test } from 'node:test'
import { linux } from '#linux/linux.ts'
import { isKind } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import type { Repeat } from '#storage/slow-looks.ts'
import { openStorage } from '#storage/storage.ts'
import { describeTree } from '#storage/testing/temporary-storage.ts'
import { openImages } from './image-store.ts'
import { buildImage, buildLayer } from './testing/image-builder.ts'
import { TestRegistry } from './testing/registry.ts'
import { quickTiming, testConfig } from './testing/test-images.ts'

const repeat: Repeat = (look) => {
  const timer = setInterval(look, 500)
  return () => clearInterval(timer)
}

const openAt = async (root: string, additional: readonly string[] = []) => {
  const storage = await openStorage({
    root: join(root, 'storage'),
    additional: additional.map((dir) => join(dir, 'storage')),
    linux,
    log: silentLog,
  })
  const images = await openImages({
    storage,
    root: join(root, 'images'),
    additionalRoots: additional.map((dir) => join(dir, 'images')),
    linux,
    log: silentLog,
    inUse: () => false,
    timing: quickTiming,
    config: testConfig,
    repeat,
  })
  return { storage, images, close: () => images.close().then(() => storage.close()) }
}

/** A store with one image of two layers, mounted so that nobody can write to it; and another root beside it. */
const setUp = async (t: TestContext) => {
  const directory = mkdtempSync(join(tmpdir(), 'additional-'))
  const [made, shared, mountpoint] = ['made', 'shared', 'mount'].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ]
  const registry = await TestRegistry.start()
  const base = await buildLayer({ 'etc/': '', 'etc/os': 'shared', 'bin/sh': 'x'.repeat(900) })
  const top = await buildLayer({ app: 'delivered' })
  const image = buildImage({ layers: [base, top] })
  registry.add('app', image, 'v1')
  const reference = `${registry.host}/app:v1`
  const first = await openAt(made)
  await first.images.pull({ reference })
  await first.storage.check([])
  await first.close()
  mkdirSync(shared)
  linux.bindTree({ source: made, target: shared, readonly: true })
  const before = describeTree(made)
  const here = await openAt(join(directory, 'own'), [shared])
  t.after(async () => {
    await here.close()
    for (const path of [mountpoint, shared]) linux.unmount(path, { detach: true })
    rmSync(directory, { recursive: true, force: true })
    await registry[Symbol.asyncDispose]()
  })
  return { ...here, registry, base, image, reference, mountpoint, made, shared, before, own: join(directory, 'own') }
}

suite('an additional image store', () => {
  test('has its images shown and mounted without a copy, and is not changed', async (t) => {
    const { images, storage, reference, image, mountpoint, made, before } = await setUp(t)
    const found = images.resolve(reference)
    assert.deepEqual([found?.id, found?.pinned], [image.id, true])
    await storage.rootfs.create({ id: 'c', layers: found?.diffIds ?? [], mountpoint })
    assert.equal(readFileSync(join(mountpoint, 'app'), 'utf8'), 'delivered')
    await storage.rootfs.remove('c')
    await images.collectGarbage()
    assert.deepEqual((await storage.check([])).findings, [])
    assert.deepEqual(storage.layers.list(), [])
    await assert.rejects(
      images.remove(reference),
      (error) => isKind(error, 'failed-precondition') && /only read/.test(String(error)),
    )
    assert.deepEqual(describeTree(made), before)
  })

  test('saves the layers of it when another image, or a newer one, needs them', async (t) => {
    const { images, storage, registry, base, mountpoint } = await setUp(t)
    // Without an entry for /etc: its attributes are to be found in the other store.
    const own = await buildLayer({ 'etc/own': 'ours' })
    registry.add('app', buildImage({ layers: [base, own] }), 'v2')
    const { diffIds } = await images.pull({ reference: `${registry.host}/app:v2` })
    assert.deepEqual(registry.seen(base.digest).length, 1, 'fetched once, for the other store')
    assert.deepEqual(
      storage.layers.list().map(({ diffId }) => diffId),
      [own.diffId],
    )
    const idMap = { uids: { hostId: 100_000, size: 65_536 }, gids: { hostId: 100_000, size: 65_536 } }
    await storage.rootfs.create({ id: 'c', layers: diffIds, mountpoint, ...(storage.mapsIds && { idMap }) })
    const owner = storage.mapsIds ? '100000:100000' : '0:0'
    const lines = describeTree(mountpoint).filter((line) => line.includes('/etc'))
    assert.deepEqual(lines, [
      `./etc 0755 ${owner} dir`,
      `./etc/os 0644 ${owner} "shared"`,
      `./etc/own 0644 ${owner} "ours"`,
    ])
    await storage.rootfs.remove('c')
  })

  test('that vanishes takes its images along; who asks for a layer is told, and a pull fetches it', async (t) => {
    const { images, storage, reference, shared, mountpoint, image } = await setUp(t)
    const diffIds = images.resolve(reference)?.diffIds ?? []
    linux.unmount(shared, { detach: true })
    await assert.rejects(
      storage.rootfs.create({ id: 'c', layers: diffIds, mountpoint }),
      (error) =>
        isKind(error, 'not-found') && new RegExp(`gone from the additional image store "${shared}`).test(String(error)),
    )
    await storage.refreshAdditional()
    await images.repair([])
    assert.equal(images.resolve(reference), undefined)
    assert.equal((await images.pull({ reference })).id, image.id)
    await storage.rootfs.create({ id: 'c', layers: diffIds, mountpoint })
    await storage.rootfs.remove('c')
  })

  test('that comes later is noticed', async (t) => {
    const { shared, made, reference } = await setUp(t)
    linux.unmount(shared, { detach: true })
    rmSync(shared, { recursive: true })
    const other = `${shared}-later`
    const late = await openAt(`${shared}-own`, [other])
    t.after(() => late.close())
    assert.equal(late.images.resolve(reference), undefined)
    renameSync(made, other)
    while (late.images.resolve(reference) === undefined) await new Promise((next) => setTimeout(next, 200))
  })
})
