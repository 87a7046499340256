import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import type { Compression } from '#storage/compression.ts'
import { archive, hardlink } from '#storage/tar/testing/tarsmith.ts'
import { buildImage, buildIndex, buildLayer, layerOf, testHost } from './testing/image-builder.ts'
import { TestRegistry } from './testing/registry.ts'
import { TestImages } from './testing/test-images.ts'

const otherHost = { os: 'linux', architecture: testHost.architecture === 'amd64' ? 'arm64' : 'amd64' }

suite('pull', () => {
  for (const dialect of ['oci', 'docker'] as const) {
    for (const compression of ['gzip', 'zstd', 'none'] satisfies Compression[]) {
      test(`takes ${dialect} images with layers packed by ${compression}`, async () => {
        await using registry = await TestRegistry.start()
        await using here = await TestImages.open()
        const layers = [
          await buildLayer({ 'etc/': '', 'etc/one': 'first' }, compression),
          await buildLayer({ 'etc/two': 'second' }, compression),
        ]
        const image = buildImage({ dialect, layers, config: { User: 'app', Env: ['A=b'] } })
        registry.add('team/app', image, 'v1')
        const record = await here.images.pull({ reference: `${registry.host}/team/app:v1` })
        assert.equal(record.id, image.id)
        assert.deepEqual(record.repoTags, [`${registry.host}/team/app:v1`])
        assert.deepEqual(record.repoDigests, [`${registry.host}/team/app@${image.digest}`])
        assert.deepEqual(
          record.diffIds,
          layers.map(({ diffId }) => diffId),
        )
        assert.deepEqual(
          record.layerBlobs,
          layers.map(({ digest }) => digest),
        )
        assert.equal(record.kind === 'image' && record.config.user, 'app')
        assert.equal(record.manifestDigest, image.digest)
        assert.ok(record.sizeBytes > layers.reduce((sum, { bytes }) => sum + BigInt(bytes.length), 0n))
        const second = here.storage.layers.get(record.diffIds[1] ?? assert.fail())
        assert.equal(await readFile(join(second?.path ?? '', 'etc/two'), 'utf8'), 'second')
        assert.deepEqual(here.images.operations(), [])
        for (const { digest } of layers) assert.ok(!here.storage.blobs.has(digest), 'layer blob is kept')
        assert.ok(here.storage.blobs.has(image.digest) && here.storage.blobs.has(image.id))
      })
    }
  }

  test('chooses this host in an index, and knows the image by both digests', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const mine = buildImage({ layers: [await buildLayer({ mine: '' })] })
    const other = buildImage({ layers: [await buildLayer({ other: '' })], architecture: otherHost.architecture })
    const index = buildIndex([
      { image: other, platform: otherHost },
      { image: mine, platform: testHost },
    ])
    registry.add('app', index, 'latest')
    const record = await here.images.pull({ reference: `${registry.host}/app` })
    assert.equal(record.id, mine.id)
    const repository = `${registry.host}/app`
    assert.deepEqual(record.repoDigests, [`${repository}@${index.digest}`, `${repository}@${mine.digest}`])
    for (const name of [
      repository,
      `${repository}:latest`,
      ...record.repoDigests,
      record.id,
      record.id.slice(7),
      record.id.slice(7, 19),
    ]) {
      assert.equal(here.images.resolve(name)?.id, mine.id, name)
    }
    assert.equal(registry.seen(other.digest).length, 0)
  })

  test('takes an index in an index, but not for ever', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const image = buildImage({ layers: [await buildLayer({ a: '' })] })
    let nested = buildIndex([{ image, platform: testHost }], 'docker')
    const wrap = (inner: typeof nested): typeof nested => {
      const outer = buildIndex([{ image: { ...image, ...inner, bytes: inner.bytes }, platform: testHost }])
      registry.add('deep', inner)
      return outer
    }
    nested = wrap(nested)
    registry.add('deep', { ...nested, images: [image] }, 'two')
    assert.equal((await here.images.pull({ reference: `${registry.host}/deep:two` })).id, image.id)
    for (let depth = 0; depth < 5; depth++) nested = wrap({ ...nested, images: [image] })
    registry.add('deep', { ...nested, images: [image] }, 'seven')
    await assert.rejects(here.images.pull({ reference: `${registry.host}/deep:seven` }), (error) =>
      isKind(error, 'failed-precondition'),
    )
  })

  test('by digest gives no tag, also when a tag is written beside it', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const image = buildImage({ layers: [await buildLayer({ a: '' })] })
    registry.add('app', image, 'v1')
    const reference = `${registry.host}/app:v1@${image.digest}`
    const record = await here.images.pull({ reference })
    assert.deepEqual(record.repoTags, [])
    assert.deepEqual(record.repoDigests, [`${registry.host}/app@${image.digest}`])
    assert.equal(here.images.resolve(reference)?.id, image.id)
    assert.equal(here.images.resolve(`${registry.host}/app:v1`), undefined)
    await here.images.pull({ reference: `${registry.host}/app:v1` })
    assert.deepEqual(here.images.resolve(reference)?.repoTags, [`${registry.host}/app:v1`])
  })

  test('of an image without layers has a size', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    registry.add('empty', buildImage(), 'latest')
    const record = await here.images.pull({ reference: `${registry.host}/empty` })
    assert.ok(record.sizeBytes > 0n)
    assert.deepEqual(record.diffIds, [])
  })

  test('takes an image that has the same layer twice', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const layer = await buildLayer({ a: '' })
    registry.add('twice', buildImage({ layers: [layer, await buildLayer({ b: '' }), layer] }), 'latest')
    const record = await here.images.pull({ reference: `${registry.host}/twice` })
    assert.equal(record.diffIds.length, 3)
    assert.equal(registry.seen(layer.digest).length, 1)
  })

  test('takes a layer with hard links to files of layers below, unless these are not there', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const linking = layerOf(archive(hardlink('link', 'f')))
    registry.add('whole', buildImage({ layers: [await buildLayer({ f: 'below' }), linking] }), 'latest')
    registry.add('other', buildImage({ layers: [await buildLayer({ g: 'below' }), linking] }), 'latest')
    const { diffIds } = await here.images.pull({ reference: `${registry.host}/whole` })
    await assert.rejects(here.images.pull({ reference: `${registry.host}/other` }), (error) => {
      assert.ok(isKind(error, 'failed-precondition'), String(error))
      assert.match(String(error), /other:latest" do not go together: .*"link" to "f"/)
      return true
    })
    assert.equal(here.images.list().length, 1)
    assert.equal((await here.images.pull({ reference: `${registry.host}/whole` })).diffIds.length, diffIds.length)
  })

  test('again asks for the manifest and fetches no layer', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const image = buildImage({ layers: [await buildLayer({ a: '' })] })
    registry.add('app', image, 'latest')
    const first = await here.images.pull({ reference: `${registry.host}/app` })
    const layer = image.layers[0] ?? assert.fail()
    const second = await here.images.pull({ reference: `${registry.host}/app` })
    assert.equal(registry.seen(layer.digest).length, 1)
    assert.equal(registry.seen('/manifests/').length, 2)
    assert.deepEqual({ ...second, pulledAt: '' }, { ...first, pulledAt: '' })
  })

  test('moves a tag to the new image, the old one stays without it', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const reference = `${registry.host}/app:v1`
    const old = buildImage({ layers: [await buildLayer({ a: 'old' })] })
    const now = buildImage({ layers: [await buildLayer({ a: 'new' })] })
    registry.add('app', old, 'v1')
    await here.images.pull({ reference })
    registry.add('app', now, 'v1')
    await here.images.pull({ reference })
    assert.equal(here.images.resolve(reference)?.id, now.id)
    const left = here.images.resolve(old.id)
    assert.deepEqual(left?.repoTags, [])
    assert.deepEqual(left?.repoDigests, [`${registry.host}/app@${old.digest}`])
    assert.equal(here.images.list().length, 2)
  })

  test('survives a restart', async () => {
    await using registry = await TestRegistry.start()
    const first = await TestImages.open()
    registry.add('app', buildImage({ layers: [await buildLayer({ a: '' })] }), 'latest')
    const record = await first.images.pull({ reference: `${registry.host}/app` })
    await using second = await TestImages.open({}, await first.stop())
    assert.deepEqual(second.images.resolve(record.id), record)
  })

  test('shows operators what it is doing', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const image = buildImage({ layers: [await buildLayer({ a: '' }), await buildLayer({ b: '' })] })
    registry.add('app', image, 'latest')
    const { promise, resolve } = Promise.withResolvers<void>()
    const last = image.layers[1] ?? assert.fail()
    registry.misbehave({ path: last.digest, misdeed: { do: 'hold', until: () => promise } })
    const pull = here.images.pull({ reference: `${registry.host}/app` })
    while (here.images.operations()[0]?.layersDone !== 1) await new Promise((next) => setTimeout(next, 5))
    const [operation] = here.images.operations()
    assert.equal(operation?.what, `${registry.host}/app:latest`)
    assert.equal(operation?.stage, 'fetching layers')
    assert.equal(operation?.layersTotal, 2)
    assert.ok((operation?.sinceMs ?? 0) >= (operation?.startedAtMs ?? 1))
    assert.deepEqual(here.images.list(), [], 'visible before it is complete')
    resolve()
    await pull
    assert.deepEqual(here.images.operations(), [])
  })
})

suite('pulls at the same time', () => {
  test('of the same image are one', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const image = buildImage({ layers: [await buildLayer({ a: '' })] })
    registry.add('app', image, 'latest')
    const names = ['app', 'app:latest', 'app', 'app'].map((name) => `${registry.host}/${name}`)
    const records = await Promise.all(names.map((reference) => here.images.pull({ reference })))
    assert.equal(new Set(records).size, 1)
    assert.equal(registry.seen('/manifests/').length, 1)
  })

  test('with other credentials are not', async () => {
    await using registry = await TestRegistry.start({ kind: 'basic', username: 'u', password: 'right' })
    await using here = await TestImages.open()
    registry.add('app', buildImage({ layers: [await buildLayer({ a: '' })] }), 'latest')
    const reference = `${registry.host}/app`
    const [good, bad] = await Promise.allSettled([
      here.images.pull({ reference, auth: { username: 'u', password: 'right' } }),
      here.images.pull({ reference, auth: { username: 'u', password: 'wrong' } }),
    ])
    assert.equal(good.status, 'fulfilled')
    assert.ok(bad.status === 'rejected' && isKind(bad.reason, 'permission-denied'))
  })

  test('of images that share a layer fetch it once', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const shared = await buildLayer({ shared: 'x'.repeat(5000) })
    const names = ['one', 'two', 'three']
    for (const name of names)
      registry.add(name, buildImage({ layers: [shared, await buildLayer({ [name]: '' })] }), 'latest')
    await Promise.all(names.map((name) => here.images.pull({ reference: `${registry.host}/${name}` })))
    assert.equal(registry.seen(shared.digest).length, 1)
    assert.equal(here.images.list().length, 3)
  })

  test('give the image to those who stay when the first caller leaves', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const image = buildImage({ layers: [await buildLayer({ a: '' })] })
    registry.add('app', image, 'latest')
    const layer = image.layers[0] ?? assert.fail()
    const { promise, resolve } = Promise.withResolvers<void>()
    registry.misbehave({ path: layer.digest, misdeed: { do: 'hold', until: () => promise } })
    const leader = new AbortController()
    const reference = `${registry.host}/app`
    const first = here.images.pull({ reference, signal: leader.signal })
    const others = [
      here.images.pull({ reference }),
      here.images.pull({ reference, signal: new AbortController().signal }),
    ]
    while (registry.seen(layer.digest).length === 0) await new Promise((next) => setTimeout(next, 5))
    leader.abort(new Error('the leader left'))
    await assert.rejects(first, /the leader left/)
    resolve()
    for (const record of await Promise.all(others)) assert.equal(record.id, image.id)
    assert.equal(registry.seen('/manifests/').length, 1)
    assert.equal(registry.seen(layer.digest).length, 1)
  })

  test('go on when one caller leaves, and stop when all have left', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const image = buildImage({ layers: [await buildLayer({ a: '' })] })
    registry.add('app', image, 'latest')
    const layer = image.layers[0] ?? assert.fail()
    const { promise, resolve } = Promise.withResolvers<void>()
    registry.misbehave({ path: layer.digest, misdeed: { do: 'hold', until: () => promise } })
    const [one, two] = [new AbortController(), new AbortController()]
    const reference = `${registry.host}/app`
    const first = here.images.pull({ reference, signal: one.signal })
    const second = here.images.pull({ reference, signal: two.signal })
    while (registry.seen(layer.digest).length === 0) await new Promise((next) => setTimeout(next, 5))
    one.abort(new Error('one left'))
    await assert.rejects(first, /one left/)
    assert.equal(here.images.operations().length, 1)
    two.abort(new Error('two left'))
    await assert.rejects(second, /two left/)
    while (here.images.operations().length > 0) await new Promise((next) => setTimeout(next, 5))
    resolve()
    assert.deepEqual(here.images.list(), [])
    registry.behave()
    await here.images.pull({ reference })
    assert.equal(registry.seen('/manifests/').length, 2)
  })

  test('end with the store', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    registry.add('app', buildImage(), 'latest')
    registry.misbehave({ path: '/manifests/', misdeed: { do: 'stall', afterBytes: 10 } })
    const pull = here.images.pull({ reference: `${registry.host}/app` })
    const failed = assert.rejects(pull, (error) => isKind(error, 'cancelled'))
    while (registry.seen('/manifests/').length === 0) await new Promise((next) => setTimeout(next, 5))
    await here.images.close()
    await failed
  })
})
