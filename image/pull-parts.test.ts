/** Big layers that come over several connections: in which parts, and what becomes of servers that cannot do that. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type BuiltImage, buildImage, buildLayer } from './testing/image-builder.ts'
import { type Misdeed, TestRegistry } from './testing/registry.ts'
import { quickTiming, TestImages } from './testing/test-images.ts'

const CONNECTIONS = 4
const config = { parts: { connections: CONNECTIONS, fromBytes: 1_000_000 } }

interface Rig extends AsyncDisposable {
  readonly registry: TestRegistry
  readonly here: TestImages
  readonly image: BuiltImage
  readonly digest: string
  readonly size: number
  readonly pull: (here?: TestImages) => Promise<unknown>
}

const makeRig = async (bytes = 4_000_000): Promise<Rig> => {
  const registry = await TestRegistry.start()
  const here = await TestImages.open({ config })
  const image = buildImage({ layers: [await buildLayer({ noise: randomBytes(bytes) }, 'none')] })
  registry.add('app', image, 'latest')
  const layer = image.layers[0] ?? assert.fail('no layer')
  return {
    registry,
    here,
    image,
    digest: layer.digest,
    size: layer.bytes.length,
    pull: (images = here) => images.images.pull({ reference: `${registry.host}/app` }),
    [Symbol.asyncDispose]: async () => {
      await here[Symbol.asyncDispose]()
      await registry[Symbol.asyncDispose]()
    },
  }
}

interface Asked {
  readonly start: number
  readonly end: number
}

/** The ranges of all requests for the layer, in order of their beginning. */
const ranges = ({ registry, digest, size }: Rig, after = 0): Asked[] =>
  registry
    .seen(digest)
    .slice(after)
    .map(({ headers: { range } }) => {
      const [, start, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? 'bytes=0-') ?? []
      return { start: Number(start), end: last ? Number(last) + 1 : size }
    })
    .sort((a, b) => a.start - b.start)

const bytesOf = (asked: readonly Asked[]): number => asked.reduce((sum, { start, end }) => sum + end - start, 0)

const until = async (isSo: () => boolean): Promise<void> => {
  const late = performance.now() + 60_000
  for (; !isSo(); await sleep(5)) assert.ok(performance.now() < late, 'it does not become so')
}

suite('a big layer', () => {
  test('comes over several connections at once, each byte of it once', async () => {
    await using rig = await makeRig()
    const { registry, digest } = rig
    // None ends before all are there.
    const all = () => until(() => registry.seen(digest).length >= CONNECTIONS)
    registry.misbehave({ path: digest, times: CONNECTIONS, misdeed: { do: 'pause', afterBytes: 1000, until: all } })
    await rig.pull()
    const asked = ranges(rig)
    assert.equal(bytesOf(asked), rig.size)
    for (const [index, { start }] of asked.entries()) assert.equal(start, asked[index - 1]?.end ?? 0)
  })

  test('never over more connections than are allowed, and a small one over one', async () => {
    await using rig = await makeRig()
    const { registry, digest } = rig
    const released = Promise.withResolvers<void>()
    registry.misbehave({ path: digest, misdeed: { do: 'pause', afterBytes: 1000, until: () => released.promise } })
    const pulling = rig.pull()
    await until(() => registry.seen(digest).length >= CONNECTIONS)
    await sleep(100)
    assert.equal(registry.seen(digest).length, CONNECTIONS)
    released.resolve()
    await pulling
    await using small = await makeRig(500_000)
    await small.pull()
    assert.deepEqual(
      small.registry.seen(small.digest).map(({ headers }) => headers.range),
      [undefined],
    )
  })

  const cannot: [name: string, misdeeds: Misdeed[]][] = [
    ['ignores what part is asked for', [{ do: 'ignore-range' }]],
    ['begins to ignore it', [{ do: 'say', headers: {} }, { do: 'ignore-range' }, { do: 'ignore-range' }]],
    ['gives another part', [{ do: 'answer', status: 206, headers: { 'content-range': 'bytes 0-9/300' }, body: 'x' }]],
    [
      'begins to give other parts',
      [
        { do: 'say', headers: {} },
        { do: 'answer', status: 206, headers: { 'content-range': 'bytes 0-9/300' }, body: 'x' },
      ],
    ],
    ['refuses parts', [{ do: 'answer', status: 416 }]],
  ]
  for (const [name, misdeeds] of cannot) {
    test(`comes also from a registry that ${name}`, async () => {
      await using rig = await makeRig()
      for (const misdeed of misdeeds) rig.registry.misbehave({ path: rig.digest, times: 1, misdeed })
      await rig.pull()
      assert.equal(rig.here.images.list().length, 1)
    })
  }

  for (const status of [403, 429, 503]) {
    test(`comes over one connection when others are answered with ${status}`, async () => {
      await using rig = await makeRig()
      const { registry, digest } = rig
      const refused = () => until(() => registry.seen(digest).length >= CONNECTIONS)
      registry.misbehave({ path: digest, times: 1, misdeed: { do: 'pause', afterBytes: 1000, until: refused } })
      registry.misbehave({ path: digest, times: CONNECTIONS - 1, misdeed: { do: 'answer', status } })
      await rig.pull()
    })
  }

  test('comes over one connection when another one gives another version', async () => {
    await using rig = await makeRig()
    for (const etag of ['"a"', '"b"', '"c"', '"d"'])
      rig.registry.misbehave({ path: rig.digest, times: 1, misdeed: { do: 'say', headers: { etag } } })
    await rig.pull()
    assert.ok(rig.here.logged.some((line) => line.includes('one connection less')))
  })

  test('is asked for once from a registry that ignores what part is asked for', async () => {
    await using rig = await makeRig()
    rig.registry.misbehave({ path: rig.digest, misdeed: { do: 'ignore-range' } })
    await rig.pull()
    assert.equal(rig.registry.seen(rig.digest).length, 1)
  })

  test('with a wrong byte in one part is fetched again, from one server at a time', async () => {
    await using rig = await makeRig()
    const { registry, digest } = rig
    registry.misbehave({ path: digest, times: 1, misdeed: { do: 'say', headers: {} } })
    registry.misbehave({ path: digest, times: 1, misdeed: { do: 'spoil' } })
    await rig.pull()
    assert.deepEqual(registry.seen(digest).at(-1)?.headers.range, undefined)
  })

  test('goes on in the middle of each part that was cut', async () => {
    await using rig = await makeRig()
    const [cuts, afterBytes] = [8, 150_000]
    rig.registry.misbehave({ path: rig.digest, times: cuts, misdeed: { do: 'cut', afterBytes } })
    await rig.pull()
    const { bytesSent } = rig.registry
    // What a cut takes from the sockets comes twice, and nothing else.
    assert.ok(bytesSent <= rig.size + cuts * afterBytes, `${bytesSent} of ${rig.size} bytes were sent`)
    const part = Math.ceil(rig.size / 16)
    assert.ok(ranges(rig).some(({ start }) => start % part > 0))
  })

  test('goes on after a restart with what has come of each part', async () => {
    await using rig = await makeRig()
    const { registry, digest, size } = rig
    const first = await TestImages.open({ config, timing: { ...quickTiming, attempts: 1 } })
    // Its beginning does not come, the rest does.
    registry.misbehave({ path: digest, times: 1, misdeed: { do: 'stall', afterBytes: 1000 } })
    const pulling = assert.rejects(rig.pull(first))
    await until(() => (first.images.operations()[0]?.bytesReceived ?? 0) > size * 0.6)
    const directory = await first.stop()
    await pulling
    const before = registry.seen(digest).length
    await using second = await TestImages.open({ config }, directory)
    await rig.pull(second)
    const again = bytesOf(ranges(rig, before))
    assert.ok(again <= 0.5 * size, `${again} of ${size} bytes were fetched again`)
  })
})
