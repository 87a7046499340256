/** Answers that are almost right, and waiting that is no stall. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { type BuiltImage, buildImage, buildLayer } from './testing/image-builder.ts'
import { TestRegistry } from './testing/registry.ts'
import { quickTiming, TestImages } from './testing/test-images.ts'

const imageOf = async (bytes: number): Promise<BuiltImage> =>
  buildImage({ layers: [await buildLayer({ noise: randomBytes(bytes) }, 'none')] })
const layerOf = (image: BuiltImage) => image.layers[0] ?? assert.fail()
const MAX_DOCUMENT = 4 * 1024 * 1024

/** A manifest of exactly so many bytes. */
const sized = (layers: Parameters<typeof buildImage>[0], bytes: number): BuiltImage => {
  const withNote = (length: number): BuiltImage =>
    buildImage({ ...layers, alter: (manifest) => ({ ...manifest, annotations: { note: 'x'.repeat(length) } }) })
  return withNote(bytes - withNote(0).bytes.length)
}

suite('an answer that is almost right', () => {
  test('a manifest of 4 MiB is taken, one byte more is not', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const layers = [await buildLayer({ a: 'b' })]
    const [good, bad] = [sized({ layers }, MAX_DOCUMENT), sized({ layers }, MAX_DOCUMENT + 1)]
    assert.deepEqual([good.bytes.length, bad.bytes.length], [MAX_DOCUMENT, MAX_DOCUMENT + 1])
    registry.add('good', good, '1')
    registry.add('bad', bad, '1')
    assert.equal((await here.images.pull({ reference: `${registry.host}/good:1` })).id, good.id)
    await assert.rejects(here.images.pull({ reference: `${registry.host}/bad:1` }), (error) =>
      isKind(error, 'resource-exhausted'),
    )
  })

  test('other bytes in the rest of a blob, with the right range, do not become content', async () => {
    const image = await imageOf(400_000)
    const { digest } = layerOf(image)
    for (const isForEver of [false, true]) {
      await using registry = await TestRegistry.start()
      await using here = await TestImages.open()
      registry.add('app', image, '1')
      registry.misbehave({ path: digest, times: 1, misdeed: { do: 'cut', afterBytes: 200_000 } })
      registry.misbehave({ path: digest, ...(!isForEver && { times: 1 }), misdeed: { do: 'spoil' } })
      const pull = here.images.pull({ reference: `${registry.host}/app:1` })
      if (isForEver) await assert.rejects(pull, (error) => isKind(error, 'failed-precondition'))
      else assert.equal((await pull).id, image.id)
      const ranges = registry.seen(digest).map(({ headers }) => headers.range !== undefined)
      assert.deepEqual(ranges.slice(0, 3), [false, true, false], 'not begun anew')
    }
  })

  for (const status of [206, 416]) {
    test(`${status} to a request for the whole is not taken for it`, async () => {
      await using registry = await TestRegistry.start()
      await using here = await TestImages.open()
      const image = await imageOf(2_000)
      const { digest, bytes } = layerOf(image)
      registry.add('app', image, '1')
      const headers = { 'content-range': `bytes 0-${bytes.length - 1}/${bytes.length}` }
      for (const [path, body] of [
        ['/manifests/', image.bytes],
        [image.id, image.blobs.get(image.id) ?? assert.fail()],
        [digest, bytes],
      ] as const) {
        registry.misbehave({ path, misdeed: { do: 'answer', status, headers, body } })
        await assert.rejects(
          here.images.pull({ reference: `${registry.host}/app:1` }),
          (error) => isKind(error, 'registry-unavailable') || isKind(error, 'failed-precondition'),
          path,
        )
        registry.behave()
      }
      assert.deepEqual(here.images.list(), [])
      assert.equal((await here.images.pull({ reference: `${registry.host}/app:1` })).id, image.id)
    })
  }
})

suite('waiting that is no stall', () => {
  test('many pulls share six downloads, three for each, and all of them get their turn', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open({ timing: { ...quickTiming, attempts: 1 } })
    const names = Array.from({ length: 12 }, (_, index) => `app${index}`)
    const running = new Map<string, number>()
    const seen = { all: 0, ofOne: 0 }
    const busy = async (name: string): Promise<void> => {
      running.set(name, (running.get(name) ?? 0) + 1)
      seen.all = Math.max(
        seen.all,
        [...running.values()].reduce((sum, count) => sum + count, 0),
      )
      seen.ofOne = Math.max(seen.ofOne, running.get(name) ?? 0)
      await new Promise((resolve) => setTimeout(resolve, 20))
      running.set(name, (running.get(name) ?? 0) - 1)
    }
    for (const name of names) {
      const layers = await Promise.all([1, 2, 3, 4].map((each) => buildLayer({ [`${name}-${each}`]: name }, 'none')))
      registry.add(name, buildImage({ layers }), '1')
      for (const { digest } of layers)
        registry.misbehave({ path: digest, misdeed: { do: 'hold', until: () => busy(name) } })
    }
    await Promise.all(names.map((name) => here.images.pull({ reference: `${registry.host}/${name}:1` })))
    assert.equal(here.images.list().length, names.length)
    assert.ok(seen.all <= 6 && seen.ofOne <= 3, JSON.stringify(seen))
    assert.ok(seen.ofOne > 1 && seen.all > seen.ofOne, `hardly anything side by side: ${JSON.stringify(seen)}`)
  })

  test('a pull that waits for another one to bring a layer waits as long as that takes', async () => {
    await using registry = await TestRegistry.start()
    const idleMs = 1_000
    await using here = await TestImages.open({ timing: { ...quickTiming, idleMs, documentMs: 60_000, attempts: 1 } })
    const shared = await buildLayer({ noise: randomBytes(20_000) }, 'none')
    for (const name of ['one', 'two']) {
      registry.add(name, buildImage({ layers: [shared], config: { Labels: { name } } }), '1')
    }
    // Moves all the time, and takes several times as long as nothing may move.
    registry.misbehave({ path: shared.digest, misdeed: { do: 'slow', pieceBytes: 500, pauseMs: 60 } })
    const began = performance.now()
    await Promise.all(['one', 'two'].map((name) => here.images.pull({ reference: `${registry.host}/${name}:1` })))
    assert.ok(performance.now() - began > 2 * idleMs, 'it was not slow at all')
    assert.equal(registry.seen(shared.digest).length, 1)
  })
})
