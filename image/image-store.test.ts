import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { buildImage, buildLayer } from './testing/image-builder.ts'
import { TestRegistry } from './testing/registry.ts'
import { TestImages } from './testing/test-images.ts'

const anImage = async (name = 'a') => buildImage({ layers: [await buildLayer({ [name]: name })] })

suite('image store: remove', () => {
  test('by any name or id takes all names, record, layers and documents', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const image = await anImage()
    registry.add('app', image, 'v1')
    registry.add('app', image, 'v2')
    const reference = `${registry.host}/app`
    for (const by of [`${reference}:v2`, `${reference}@${image.digest}`, image.id, image.id.slice(7, 20)]) {
      await here.images.pull({ reference: `${reference}:v1` })
      const record = await here.images.pull({ reference: `${reference}:v2` })
      assert.deepEqual([...record.repoTags].sort(), [`${reference}:v1`, `${reference}:v2`])
      await here.images.remove(by)
      assert.deepEqual(here.images.list(), [])
      assert.deepEqual(await here.records(), [])
      assert.deepEqual(here.storage.blobs.list(), [])
      assert.deepEqual(here.storage.layers.list(), [])
      await here.images.remove(by)
    }
  })

  test('of what is not there, or is no name at all, does nothing', async () => {
    await using here = await TestImages.open()
    for (const text of ['nothing', 'UPPER CASE', '', `sha256:${'0'.repeat(64)}`]) await here.images.remove(text)
  })

  test('is refused while a container needs the image', async () => {
    let used = true
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open({ inUse: () => used })
    registry.add('app', await anImage(), 'latest')
    const { id } = await here.images.pull({ reference: `${registry.host}/app` })
    await assert.rejects(here.images.remove(id), (error) => isKind(error, 'failed-precondition'))
    assert.equal(here.images.list().length, 1)
    used = false
    await here.images.remove(id)
  })

  test('keeps layers that other images need', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const shared = await buildLayer({ shared: '' })
    const own = await buildLayer({ own: '' })
    registry.add('one', buildImage({ layers: [shared] }), 'latest')
    registry.add('two', buildImage({ layers: [shared, own] }), 'latest')
    await here.images.pull({ reference: `${registry.host}/one` })
    const { id } = await here.images.pull({ reference: `${registry.host}/two` })
    await here.images.remove(id)
    assert.deepEqual(
      here.storage.layers.list().map(({ diffId }) => diffId),
      [shared.diffId],
    )
  })

  test('does not take what a running pull counts on', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const shared = await buildLayer({ shared: '' })
    const late = await buildLayer({ late: '' })
    registry.add('old', buildImage({ layers: [shared] }), 'latest')
    registry.add('new', buildImage({ layers: [shared, late] }), 'latest')
    const { id } = await here.images.pull({ reference: `${registry.host}/old` })
    const { promise, resolve } = Promise.withResolvers<void>()
    registry.misbehave({ path: late.digest, misdeed: { do: 'hold', until: () => promise } })
    const pull = here.images.pull({ reference: `${registry.host}/new` })
    while (registry.seen(late.digest).length === 0) await new Promise((next) => setTimeout(next, 5))
    await here.images.remove(id)
    await here.images.collectGarbage()
    assert.ok(here.storage.layers.has(shared.diffId))
    resolve()
    const record = await pull
    assert.ok(record.diffIds.every((diffId) => here.storage.layers.has(diffId)))
    assert.ok(here.storage.blobs.has(record.id) && here.storage.blobs.has(record.manifestDigest))
  })

  test('under a container that runs keeps its layers', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    registry.add('app', await anImage(), 'latest')
    const { id, diffIds } = await here.images.pull({ reference: `${registry.host}/app` })
    await here.storage.rootfs.create({ id: 'c1', layers: diffIds, mountpoint: join(here.directory, 'rootfs') })
    try {
      await here.images.remove(id)
      assert.ok(diffIds.every((diffId) => here.storage.layers.has(diffId)))
    } finally {
      await here.storage.rootfs.unmount('c1')
      await here.storage.rootfs.remove('c1')
    }
    await here.images.collectGarbage()
    assert.deepEqual(here.storage.layers.list(), [])
  })
})

suite('image store: records', () => {
  const pulled = async () => {
    const registry = await TestRegistry.start()
    const here = await TestImages.open()
    registry.add('app', await anImage(), 'latest')
    const reference = `${registry.host}/app`
    const record = await here.images.pull({ reference })
    const path = join(here.directory, 'images', `${record.id.replace(':', '-')}.json`)
    return { registry, here, reference, record, path }
  }

  const damages: Record<string, (path: string) => Promise<void>> = {
    empty: (path) => writeFile(path, ''),
    short: async (path) => writeFile(path, (await readFile(path)).subarray(0, 100)),
    edited: async (path) => writeFile(path, (await readFile(path, 'utf8')).replace('"pinned":false', '"pinned":true')),
    'not ours': (path) => writeFile(path, '{"hello":1}'),
  }
  for (const [name, damage] of Object.entries(damages)) {
    test(`one that is ${name} is put aside, and the next pull repairs it`, async () => {
      const { registry, here, reference, record, path } = await pulled()
      await using _registry = registry
      const directory = await here.stop()
      await damage(path)
      await using again = await TestImages.open({}, directory)
      assert.equal(again.images.resolve(reference), undefined)
      assert.equal((await again.quarantined()).length, 1)
      assert.ok(again.logged.some((line) => line.includes('damaged')))
      const before = registry.requests.length
      assert.equal((await again.images.pull({ reference })).id, record.id)
      // Manifest and config; the layer is still there.
      assert.equal(registry.requests.length - before, 2)
    })
  }

  test('one whose layer is gone is put aside, and the next pull fetches that layer', async () => {
    const { registry, here, reference, record } = await pulled()
    await using _registry = registry
    await here.storage.layers.remove(record.diffIds[0] ?? assert.fail())
    await using again = await TestImages.open({}, await here.stop())
    assert.deepEqual(again.images.list(), [])
    assert.equal((await again.images.pull({ reference })).id, record.id)
    assert.ok(record.diffIds.every((diffId) => again.storage.layers.has(diffId)))
  })

  test('a crash while a tag moved gives it to the new image, for good', async () => {
    const { registry, here, reference, record, path } = await pulled()
    await using _registry = registry
    const before = await readFile(path)
    const newer = await anImage('newer')
    registry.add('app', newer, 'latest')
    await here.images.pull({ reference })
    const directory = await here.stop()
    // As if the power had gone between the two writes.
    await writeFile(path, before)
    const again = await TestImages.open({}, directory)
    assert.equal(again.images.resolve(reference)?.id, newer.id)
    assert.deepEqual(again.images.resolve(record.id)?.repoTags, [])
    await again.images.remove(newer.id)
    await using last = await TestImages.open({}, await again.stop())
    assert.equal(last.images.resolve(reference), undefined, 'the tag came back')
    assert.equal(last.images.resolve(record.id)?.id, record.id)
  })

  test('left-overs of a write are swept, other files left alone', async () => {
    const { registry, here } = await pulled()
    await using _registry = registry
    const directory = await here.stop()
    await writeFile(join(directory, 'images', '.x.tmp'), '')
    await writeFile(join(directory, 'images', 'notes.txt'), '')
    await using again = await TestImages.open({}, directory)
    assert.equal(again.images.list().length, 1)
    await assert.rejects(readFile(join(directory, 'images', '.x.tmp')))
    await readFile(join(directory, 'images', 'notes.txt'))
  })

  test('the list is a snapshot that nobody can change', async () => {
    const { registry, here } = await pulled()
    await using _registry = registry
    await using _here = here
    const list = here.images.list()
    assert.ok(Object.isFrozen(list))
    await here.images.remove(list[0]?.id ?? '')
    assert.equal(list.length, 1)
    assert.equal(here.images.list().length, 0)
  })

  test('usage counts what is there', async () => {
    const { registry, here } = await pulled()
    await using _registry = registry
    await using _here = here
    const { images, containers } = here.images.fsInfo()
    assert.ok(images.bytes > 0 && images.inodes > 0)
    assert.equal(containers.bytes, 0)
    assert.equal(images.mountpoint, join(here.directory, 'storage'))
  })
})
