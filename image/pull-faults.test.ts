import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { linux } from '#linux/linux.ts'
import { type ErrorKind, isKind } from '#proto/errors.ts'
import type { BuiltImage } from './testing/image-builder.ts'
import { buildImage, buildIndex, buildLayer, layerOf } from './testing/image-builder.ts'
import { type Misdeed, TestRegistry } from './testing/registry.ts'
import { quickTiming, TestImages } from './testing/test-images.ts'

const imageOf = async (bytes = 300_000): Promise<BuiltImage> =>
  buildImage({ layers: [await buildLayer({ noise: randomBytes(bytes) }, 'none')] })

const layerType = 'application/vnd.oci.image.layer.v1.tar'

const layerOfImage = (image: BuiltImage) => image.layers[0] ?? assert.fail('no layer')

/** The pull fails with this kind and leaves nothing that could be seen or mistaken for content. */
const refuses = async (
  kind: ErrorKind,
  image: Parameters<TestRegistry['add']>[1],
  misdeeds: { path: string; misdeed: Misdeed }[] = [],
): Promise<Error> => {
  await using registry = await TestRegistry.start()
  await using here = await TestImages.open({ timing: { ...quickTiming, idleMs: 300, connectMs: 300, responseMs: 300 } })
  registry.add('app', image, 'latest')
  for (const { path, misdeed } of misdeeds) registry.misbehave({ path, misdeed })
  const error: unknown = await here.images.pull({ reference: `${registry.host}/app` }).then(
    () => assert.fail('the pull succeeded'),
    (reason) => reason,
  )
  assert.ok(isKind(error, kind), `${kind} expected, got ${String(error)}`)
  assert.deepEqual(here.images.list(), [])
  assert.deepEqual(await here.records(), [])
  await here.images.collectGarbage()
  assert.deepEqual(here.storage.blobs.list(), [])
  assert.deepEqual(here.storage.layers.list(), [])
  // What can never be right is not kept to be gone on with.
  if (kind === 'failed-precondition' && 'layers' in image)
    for (const { digest } of image.layers) assert.equal(await here.storage.blobs.partial(digest), 0)
  return error
}

suite('pull over a bad line', () => {
  const cases: [name: string, misdeeds: Misdeed[]][] = [
    ['5xx', [{ do: 'answer', status: 503 }]],
    ['429 with Retry-After', [{ do: 'answer', status: 429, headers: { 'retry-after': '1' } }]],
    ['429 with an absurd Retry-After', [{ do: 'answer', status: 429, headers: { 'retry-after': '315360000' } }]],
    ['a reset connection', [{ do: 'reset' }]],
    ['a stall', [{ do: 'stall', afterBytes: 20 }]],
    ['a cut', [{ do: 'cut', afterBytes: 20 }]],
    ['two failures', [{ do: 'answer', status: 500 }, { do: 'reset' }]],
  ]
  for (const [name, misdeeds] of cases) {
    for (const path of ['/manifests/', 'config', 'layer']) {
      test(`gets over ${name} at ${path}`, async () => {
        await using registry = await TestRegistry.start()
        await using here = await TestImages.open({ timing: { ...quickTiming, idleMs: 300 } })
        const image = await imageOf(2000)
        registry.add('app', image, 'latest')
        const paths: Record<string, string> = { config: image.id, layer: layerOfImage(image).digest }
        for (const misdeed of misdeeds) registry.misbehave({ path: paths[path] ?? path, times: 1, misdeed })
        assert.equal((await here.images.pull({ reference: `${registry.host}/app` })).id, image.id)
        assert.equal(registry.seen(paths[path] ?? path).length, misdeeds.length + 1)
      })
    }
  }

  test('resumes a blob that is cut at every tenth', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    // What a connection still held when it broke is lost, a hundred kilobytes or so: each part must be more than that.
    const image = await imageOf(4_000_000)
    const { digest, bytes } = layerOfImage(image)
    registry.add('app', image, 'latest')
    const step = Math.ceil(bytes.length / 10)
    registry.misbehave({ path: digest, times: 9, misdeed: { do: 'cut', afterBytes: step } })
    await here.images.pull({ reference: `${registry.host}/app` })
    const requests = registry.seen(digest)
    assert.equal(requests.length, 10)
    const ranges = requests.slice(1).map(({ headers }) => Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1]))
    assert.ok(
      ranges.every((start, index) => start > 0 && start >= (ranges[index - 1] ?? 0)),
      String(ranges),
    )
  })

  test('goes on after a restart where it had stopped', async () => {
    await using registry = await TestRegistry.start()
    const image = await imageOf(400_000)
    const { digest } = layerOfImage(image)
    registry.add('app', image, 'latest')
    const reference = `${registry.host}/app`
    const first = await TestImages.open({ timing: { ...quickTiming, attempts: 1 } })
    registry.misbehave({ path: digest, times: 1, misdeed: { do: 'cut', afterBytes: 200_000 } })
    await assert.rejects(first.images.pull({ reference }), (error) => isKind(error, 'registry-unavailable'))
    await using second = await TestImages.open({}, await first.stop())
    await second.images.pull({ reference })
    assert.match(registry.seen(digest).at(-1)?.headers.range ?? '', /^bytes=\d{4,}-$/)
  })

  test('what it received survives a garbage collection', async () => {
    await using registry = await TestRegistry.start()
    const image = await imageOf(400_000)
    const { digest } = layerOfImage(image)
    registry.add('app', image, 'latest')
    const reference = `${registry.host}/app`
    await using here = await TestImages.open({ timing: { ...quickTiming, attempts: 1 } })
    registry.misbehave({ path: digest, times: 1, misdeed: { do: 'cut', afterBytes: 200_000 } })
    await assert.rejects(here.images.pull({ reference }), (error) => isKind(error, 'registry-unavailable'))
    await here.images.collectGarbage()
    await here.images.pull({ reference })
    assert.match(registry.seen(digest).at(-1)?.headers.range ?? '', /^bytes=\d{4,}-$/)
  })

  test('a caller that leaves leaves what was received to the next one', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const image = await imageOf(400_000)
    const { digest } = layerOfImage(image)
    registry.add('app', image, 'latest')
    const reference = `${registry.host}/app`
    registry.misbehave({ path: digest, times: 1, misdeed: { do: 'stall', afterBytes: 200_000 } })
    const leaver = new AbortController()
    const left = assert.rejects(here.images.pull({ reference, signal: leaver.signal }), /gone/)
    while ((here.images.operations()[0]?.bytesReceived ?? 0) < 150_000) await new Promise((next) => setTimeout(next, 5))
    leaver.abort(new Error('gone'))
    await left
    await here.images.pull({ reference })
    assert.match(registry.seen(digest).at(-1)?.headers.range ?? '', /^bytes=\d{4,}-$/)
  })

  test('starts over when the registry cannot resume', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const image = await imageOf()
    const { digest } = layerOfImage(image)
    registry.add('app', image, 'latest')
    registry.misbehave({ path: digest, times: 1, misdeed: { do: 'cut', afterBytes: 100_000 } })
    registry.misbehave({ path: digest, times: 1, misdeed: { do: 'ignore-range' } })
    await here.images.pull({ reference: `${registry.host}/app` })
    assert.equal(registry.seen(digest).length, 2)
  })

  const badResumes: [name: string, misdeed: Misdeed][] = [
    ['another range', { do: 'answer', status: 206, headers: { 'content-range': 'bytes 0-9/300' }, body: 'x' }],
    ['416', { do: 'answer', status: 416 }],
    ['other bytes', { do: 'lie', body: Buffer.alloc(1), headers: {} }],
  ]
  for (const [name, misdeed] of badResumes) {
    test(`starts over when a resumed blob gets ${name}`, async () => {
      await using registry = await TestRegistry.start()
      await using here = await TestImages.open()
      const image = await imageOf()
      const { digest } = layerOfImage(image)
      registry.add('app', image, 'latest')
      registry.misbehave({ path: digest, times: 1, misdeed: { do: 'cut', afterBytes: 200_000 } })
      registry.misbehave({ path: digest, times: 1, misdeed })
      assert.equal((await here.images.pull({ reference: `${registry.host}/app` })).id, image.id)
    })
  }

  test('does not take pauses of ours for a stall', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open({ timing: { ...quickTiming, idleMs: 400, leastBytes: 100 } })
    const image = await imageOf(4000)
    registry.add('app', image, 'latest')
    const slow: Misdeed = { do: 'slow', pieceBytes: 500, pauseMs: 60 }
    registry.misbehave({ path: layerOfImage(image).digest, misdeed: slow })
    await here.images.pull({ reference: `${registry.host}/app` })
  })

  test('gives a trickle up', async () => {
    const image = await imageOf(100_000)
    const trickle: Misdeed = { do: 'slow', pieceBytes: 1, pauseMs: 20 }
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open({ timing: { ...quickTiming, idleMs: 150, leastBytes: 1000, attempts: 2 } })
    registry.add('app', image, 'latest')
    registry.misbehave({ path: layerOfImage(image).digest, misdeed: trickle })
    const pull = here.images.pull({ reference: `${registry.host}/app` })
    await assert.rejects(pull, (error) => isKind(error, 'registry-unavailable'))
  })

  test('says RegistryUnavailable when nothing helps', async () => {
    const image = await imageOf(10)
    for (const misdeed of [
      { do: 'answer', status: 500 },
      { do: 'reset' },
      { do: 'stall', afterBytes: 3 },
    ] satisfies Misdeed[]) {
      for (const path of ['/manifests/', layerOfImage(image).digest]) {
        const error = await refuses('registry-unavailable', image, [{ path, misdeed }])
        assert.match(error.message, /^RegistryUnavailable: /)
      }
    }
  })

  test('tries as often as it should and no more', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open({ timing: { ...quickTiming, attempts: 4 } })
    registry.add('app', await imageOf(10), '1')
    for (const misdeed of [{ do: 'answer', status: 503 }, { do: 'reset' }] satisfies Misdeed[]) {
      registry.requests.length = 0
      registry.behave()
      registry.misbehave({ path: '/manifests/', misdeed })
      await assert.rejects(here.images.pull({ reference: `${registry.host}/app:1` }), /tried 4 times/)
      assert.equal(registry.requests.length, 4)
    }
  })

  test('says RegistryUnavailable when nobody is there', async () => {
    const gone = await TestRegistry.start()
    const { host } = gone
    await gone[Symbol.asyncDispose]()
    await using here = await TestImages.open()
    for (const reference of [`${host}/app`, 'no-such-host.invalid:5000/app']) {
      await assert.rejects(
        here.images.pull({ reference }),
        (error) => isKind(error, 'registry-unavailable') && error.message.startsWith('RegistryUnavailable: '),
      )
    }
  })
})

suite('pull of what must be refused', () => {
  test('unknown image', async () => {
    const image = await imageOf(10)
    const missing: Misdeed = { do: 'answer', status: 404, body: '{"errors":[{"code":"NAME_UNKNOWN"}]}' }
    assert.match(
      (await refuses('not-found', image, [{ path: '/manifests/', misdeed: missing }])).message,
      /NAME_UNKNOWN/,
    )
  })

  test('denied image', async () => {
    await refuses('permission-denied', await imageOf(10), [{ path: '/v2/', misdeed: { do: 'answer', status: 403 } }])
  })

  test('HTML instead of a manifest', async () => {
    const html: Misdeed = { do: 'answer', status: 200, headers: { 'content-type': 'text/html' }, body: '<html>sign in' }
    await refuses('failed-precondition', await imageOf(10), [{ path: '/manifests/', misdeed: html }])
  })

  test('other bytes under a digest: manifest, config, layer', async () => {
    const image = await imageOf(1000)
    const { digest, bytes } = layerOfImage(image)
    const index = buildIndex([{ image }])
    await refuses('failed-precondition', index, [
      { path: image.digest, misdeed: { do: 'lie', body: Buffer.from('{}') } },
    ])
    const config = image.blobs.get(image.id) ?? assert.fail()
    const otherConfig = Buffer.from(config.toString().replace('/bin/sh', '/bin/hs'))
    await refuses('failed-precondition', image, [{ path: image.id, misdeed: { do: 'lie', body: otherConfig } }])
    for (const body of [randomBytes(bytes.length), bytes.subarray(1), Buffer.concat([bytes, Buffer.alloc(1)])]) {
      await refuses('failed-precondition', image, [{ path: digest, misdeed: { do: 'lie', body } }])
    }
  })

  test('another sound image under the digest that was asked for', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const [wanted, other] = [await imageOf(10), await imageOf(10)]
    registry.add('app', wanted)
    registry.add('app', other)
    registry.misbehave({ path: wanted.digest, misdeed: { do: 'lie', body: other.bytes } })
    const pull = here.images.pull({ reference: `${registry.host}/app@${wanted.digest}` })
    await assert.rejects(pull, (error) => isKind(error, 'failed-precondition'))
    assert.deepEqual(here.images.list(), [])
  })

  test('a Docker-Content-Digest that contradicts the content', async () => {
    const image = await imageOf(10)
    const misdeed: Misdeed = {
      do: 'lie',
      body: image.bytes,
      headers: { 'docker-content-digest': `sha256:${'0'.repeat(64)}`, 'content-type': image.mediaType },
    }
    await refuses('failed-precondition', image, [{ path: '/manifests/', misdeed }])
  })

  test('a blob without length that is longer or shorter than it should be', async () => {
    const image = await imageOf(1000)
    const { digest, bytes } = layerOfImage(image)
    const chunked = { 'transfer-encoding': 'chunked' }
    const longer: Misdeed = { do: 'answer', status: 200, headers: chunked, body: Buffer.concat([bytes, bytes]) }
    await refuses('failed-precondition', image, [{ path: digest, misdeed: longer }])
    await refuses('failed-precondition', image, [{ path: digest, misdeed: { do: 'endless' } }])
  })

  test('a document of more than 4 MiB, and an endless one', async () => {
    const image = await imageOf(10)
    const big: Misdeed = {
      do: 'answer',
      status: 200,
      headers: { 'content-type': image.mediaType },
      body: Buffer.alloc(4 * 1024 * 1024 + 1, ' '),
    }
    for (const path of ['/manifests/', image.id]) {
      for (const misdeed of [big, { do: 'endless' }] satisfies Misdeed[])
        await refuses('resource-exhausted', image, [{ path, misdeed }])
    }
  })

  test('an encoded answer', async () => {
    const image = await imageOf(10)
    const misdeed: Misdeed = {
      do: 'lie',
      body: image.bytes,
      headers: { 'content-encoding': 'gzip', 'content-type': image.mediaType },
    }
    await refuses('failed-precondition', image, [{ path: '/manifests/', misdeed }])
  })

  test('diff ids that are not the layers', async () => {
    const layers = [await buildLayer({ a: '' })]
    await refuses('failed-precondition', buildImage({ layers, diffIds: [`sha256:${'0'.repeat(64)}`] }))
    await refuses('failed-precondition', buildImage({ layers, diffIds: [] }))
    await refuses('failed-precondition', buildImage({ layers: [], diffIds: [`sha256:${'0'.repeat(64)}`] }))
  })

  test('layers that are no archive, or packed otherwise than they say', async () => {
    await refuses('failed-precondition', buildImage({ layers: [layerOf(Buffer.from('plain text'))] }))
    const gzip = await buildLayer({ a: '' }, 'gzip')
    await refuses('failed-precondition', buildImage({ layers: [{ ...gzip, compression: 'zstd' }] }))
    await refuses('failed-precondition', buildImage({ layers: [{ ...gzip, compression: 'none' }] }))
    const cut = layerOf(Buffer.alloc(1024))
    const broken = { ...cut, bytes: cut.bytes.subarray(0, 12) }
    await refuses('failed-precondition', buildImage({ layers: [broken] }))
  })

  test('images of other platforms', async () => {
    const layers = [await buildLayer({ a: '' })]
    await refuses('failed-precondition', buildImage({ layers, os: 'windows' }))
    await refuses('failed-precondition', buildImage({ layers, architecture: 's390x' }))
    const image = buildImage({ layers, architecture: 's390x' })
    await refuses('failed-precondition', buildIndex([{ image, platform: { os: 'linux', architecture: 's390x' } }]))
  })

  test('a wrong size in the index', async () => {
    const image = await imageOf(10)
    const entry = { ...image, bytes: Buffer.alloc(image.bytes.length + 1) }
    const index = buildIndex([{ image: entry }])
    await refuses('failed-precondition', { ...index, images: [image] })
  })

  test('a bad image does not stop a good one', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const shared = await buildLayer({ shared: '' })
    registry.add('bad', buildImage({ layers: [shared, layerOf(Buffer.from('no archive'))] }), 'latest')
    registry.add('good', buildImage({ layers: [shared, await buildLayer({ good: '' })] }), 'latest')
    const [bad, good] = await Promise.allSettled(
      ['bad', 'good'].map((name) => here.images.pull({ reference: `${registry.host}/${name}` })),
    )
    assert.ok(bad?.status === 'rejected' && isKind(bad.reason, 'failed-precondition'))
    assert.equal(good?.status, 'fulfilled')
  })

  test('an image for which there is no room', async () => {
    const layer = await buildLayer({ noise: randomBytes(3_000_000) }, 'none')
    const claims = buildImage({
      layers: [layer],
      alter: (manifest) => ({ ...manifest, layers: [{ mediaType: layerType, digest: layer.digest, size: 2 ** 50 }] }),
    })
    const zeros = buildImage({ layers: [await buildLayer({ zeros: Buffer.alloc(40_000_000) })] })
    const directory = await mkdtemp(join(tmpdir(), 'cricket-full-'))
    linux.mountTmpfs(directory, { sizeBytes: 16 * 1024 * 1024 })
    try {
      await using registry = await TestRegistry.start()
      const here = await TestImages.open({}, directory)
      for (const [name, image] of Object.entries({ claims, zeros })) {
        registry.add(name, image, 'latest')
        const pull = here.images.pull({ reference: `${registry.host}/${name}` })
        await assert.rejects(pull, (error) => isKind(error, 'resource-exhausted'), name)
      }
      assert.equal(registry.seen(layer.digest).length, 0)
      await here.storage.trashEmptied()
      registry.add('good', await imageOf(1000), 'latest')
      await here.images.pull({ reference: `${registry.host}/good` })
      await here.stop()
    } finally {
      linux.unmount(directory, { detach: true })
      await rm(directory, { recursive: true })
    }
  })

  test('failures are not remembered', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const reference = `${registry.host}/app`
    await assert.rejects(here.images.pull({ reference }), (error) => isKind(error, 'not-found'))
    registry.add('app', await imageOf(10), 'latest')
    await here.images.pull({ reference })
  })
})
