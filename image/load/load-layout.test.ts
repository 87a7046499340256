import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import {
  type BuiltImage,
  type BuiltIndex,
  buildImage,
  buildIndex,
  buildLayer,
  testHost,
} from '../testing/image-builder.ts'
import { TestImages } from '../testing/test-images.ts'

interface Item {
  readonly image: BuiltImage | BuiltIndex
  readonly name?: string
}

/** A layout directory that goes away by itself. */
const layout = async (items: readonly Item[]) => {
  const directory = await mkdtemp(join(tmpdir(), 'cricket-layout-'))
  const blobs = join(directory, 'blobs', 'sha256')
  await mkdir(blobs, { recursive: true })
  const save = (digest: string, bytes: Buffer) => writeFile(join(blobs, digest.slice(7)), bytes)
  for (const { image } of items) {
    await save(image.digest, image.bytes)
    for (const each of 'images' in image ? image.images : [image]) {
      await save(each.digest, each.bytes)
      for (const [digest, bytes] of each.blobs) await save(digest, bytes)
    }
  }
  const manifests = items.map(({ image, name }) => ({
    mediaType: image.mediaType,
    digest: image.digest,
    size: image.bytes.length,
    ...(name !== undefined && { annotations: { 'org.opencontainers.image.ref.name': name } }),
  }))
  await writeFile(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
  await writeFile(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }))
  return { directory, blobs, [Symbol.asyncDispose]: () => rm(directory, { recursive: true }) }
}

const anImage = async (name: string) => buildImage({ layers: [await buildLayer({ [name]: '' })] })

suite('import of a layout directory', () => {
  test('brings its images, named and pinned', async () => {
    await using here = await TestImages.open()
    const [one, two] = [await anImage('one'), await anImage('two')]
    const index = buildIndex([{ image: two, platform: testHost }])
    await using from = await layout([
      { image: one, name: 'r.example/one:1' },
      { image: index, name: 'two' },
    ])
    const imported = await here.images.load({ path: from.directory, pin: true })
    assert.deepEqual(
      imported.map(({ id }) => id),
      [one.id, two.id],
    )
    assert.ok(imported.every(({ pinned }) => pinned))
    assert.equal(here.images.resolve('r.example/one:1')?.id, one.id)
    assert.equal(here.images.resolve('two')?.id, two.id)
    assert.equal(here.images.resolve(`two@${index.digest}`)?.id, two.id)
    assert.ok(imported.flatMap(({ diffIds }) => diffIds).every((diffId) => here.storage.layers.has(diffId)))
    assert.deepEqual(
      (await here.images.load({ path: from.directory, pin: true })).map(({ id }) => id),
      [one.id, two.id],
    )
    assert.equal(here.images.list().length, 2)
  })

  test('takes an image without name', async () => {
    await using here = await TestImages.open()
    const image = await anImage('a')
    await using from = await layout([{ image }])
    assert.deepEqual((await here.images.load({ path: from.directory, pin: true }))[0]?.repoTags, [])
    assert.equal(here.images.resolve(image.id)?.id, image.id)
  })

  test('refuses what is no layout', async () => {
    await using here = await TestImages.open()
    await assert.rejects(here.images.load({ path: '/nonexistent', pin: true }), (error) => isKind(error, 'not-found'))
    await using from = await layout([])
    await writeFile(join(from.directory, 'oci-layout'), '{"imageLayoutVersion":"9"}')
    await assert.rejects(here.images.load({ path: from.directory, pin: true }), (error) =>
      isKind(error, 'failed-precondition'),
    )
  })

  test('verifies everything and follows no links', async () => {
    const image = await anImage('a')
    const layer = image.layers[0] ?? assert.fail()
    for (const digest of [image.digest, image.id, layer.digest]) {
      const path = (blobs: string): string => join(blobs, digest.slice(7))
      const spoil: ((blobs: string) => Promise<void>)[] = [
        (blobs) => writeFile(path(blobs), 'other'),
        (blobs) => rm(path(blobs)),
        async (blobs) => {
          await rm(path(blobs))
          await symlink('/etc/hostname', path(blobs))
        },
      ]
      for (const change of spoil) {
        await using here = await TestImages.open()
        await using from = await layout([{ image, name: 'a' }])
        await change(from.blobs)
        await assert.rejects(here.images.load({ path: from.directory, pin: true }))
        assert.deepEqual(here.images.list(), [])
        assert.deepEqual(here.storage.layers.list(), [])
      }
    }
  })

  test('refuses a name that is none', async () => {
    await using here = await TestImages.open()
    await using from = await layout([{ image: await anImage('a'), name: 'NOT A NAME' }])
    await assert.rejects(here.images.load({ path: from.directory, pin: true }), (error) =>
      isKind(error, 'invalid-argument'),
    )
  })
})
