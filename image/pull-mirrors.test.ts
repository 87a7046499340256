import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import type { ImagesConfig } from './images-config.ts'
import { type BuiltImage, buildImage, buildLayer } from './testing/image-builder.ts'
import { type Misdeed, type RegistryAccess, TestRegistry } from './testing/registry.ts'
import { quickTiming, TestImages, testConfig } from './testing/test-images.ts'

const SECRET = 'tOpSeCrEt'
const user = { username: 'pod', password: SECRET }

const imageOf = async (bytes = 2000): Promise<BuiltImage> =>
  buildImage({ layers: [await buildLayer({ noise: randomBytes(bytes) }, 'none')] })
const layerOf = (image: BuiltImage) => image.layers[0] ?? assert.fail()

/** A registry, a mirror, both with the image "app:1", and an image store that is configured by files. */
class Rig implements AsyncDisposable {
  readonly dir: string
  readonly registry: TestRegistry
  readonly mirror: TestRegistry
  readonly image: BuiltImage
  #here: TestImages | undefined

  private constructor(dir: string, registry: TestRegistry, mirror: TestRegistry, image: BuiltImage) {
    this.dir = dir
    this.registry = registry
    this.mirror = mirror
    this.image = image
  }

  static async make(access: { registry?: RegistryAccess; mirror?: RegistryAccess; bytes?: number } = {}): Promise<Rig> {
    const registry = await TestRegistry.start(access.registry)
    const mirror = await TestRegistry.start(access.mirror)
    const image = await imageOf(access.bytes)
    registry.add('app', image, '1')
    mirror.add('app', image, '1')
    return new Rig(await mkdtemp(join(tmpdir(), 'cricket-mirrors-')), registry, mirror, image)
  }

  async file(name: string, text: string): Promise<this> {
    await mkdir(dirname(join(this.dir, name)), { recursive: true })
    await writeFile(join(this.dir, name), text)
    return this
  }

  /** The mirror before the registry, in the words of registries.conf. */
  conf(): Promise<this> {
    const entry = (host: string, table: string) => `[[${table}]]\nlocation = "${host}"\ninsecure = true\n`
    return this.file(
      'registries.conf',
      entry(this.registry.host, 'registry') + entry(this.mirror.host, 'registry.mirror'),
    )
  }

  /** The same in the words of hosts.toml. */
  toml(more = ''): Promise<this> {
    return this.file(`${this.registry.host}/hosts.toml`, `[host."http://${this.mirror.host}"]\n${more}`)
  }

  get config(): ImagesConfig {
    const { credentials } = testConfig
    return {
      ...testConfig,
      registriesConf: join(this.dir, 'registries.conf'),
      certsDirs: [this.dir],
      credentials: { ...credentials, authFiles: [join(this.dir, 'auth.json')] },
    }
  }

  async here(config: Partial<ImagesConfig> = {}): Promise<TestImages> {
    this.#here ??= await TestImages.open({
      config: { ...this.config, ...config },
      timing: { ...quickTiming, idleMs: 400, responseMs: 400 },
    })
    return this.#here
  }

  async pull(auth?: typeof user, tag = '1'): Promise<string> {
    const { images } = await this.here()
    return (await images.pull({ reference: `${this.registry.host}/app:${tag}`, ...(auth && { auth }) })).id
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#here?.[Symbol.asyncDispose]()
    await this.registry[Symbol.asyncDispose]()
    await this.mirror[Symbol.asyncDispose]()
    await rm(this.dir, { recursive: true })
  }
}

const dialects = { 'registries.conf': (rig: Rig) => rig.conf(), 'hosts.toml': (rig: Rig) => rig.toml() }

for (const [dialect, configure] of Object.entries(dialects)) {
  suite(`a mirror by ${dialect}`, () => {
    test('is asked first and is enough; the image keeps its name', async () => {
      await using rig = await Rig.make()
      await configure(rig)
      assert.equal(await rig.pull(), rig.image.id)
      assert.equal(rig.registry.requests.length, 0)
      const { images } = await rig.here()
      assert.deepEqual(images.resolve(rig.image.id)?.repoTags, [`${rig.registry.host}/app:1`])
    })

    const failures: [name: string, misdeed: Misdeed][] = [
      ['404', { do: 'answer', status: 404 }],
      ['403', { do: 'answer', status: 403 }],
      ['401 without a challenge', { do: 'answer', status: 401 }],
      ['503', { do: 'answer', status: 503 }],
      ['429', { do: 'answer', status: 429 }],
      ['a reset', { do: 'reset' }],
      ['silence', { do: 'stall', afterBytes: 0 }],
      ['other bytes', { do: 'lie', body: Buffer.from('{}') }],
      ['HTML', { do: 'answer', status: 200, headers: { 'content-type': 'text/html' }, body: '<html>' }],
      ['a redirect loop', { do: 'answer', status: 302, headers: { location: '/v2/app/manifests/1' } }],
    ]
    for (const [name, misdeed] of failures) {
      for (const what of ['manifest', 'config', 'layer'] as const) {
        // Whoever resolves a tag is believed, within what an image may look like.
        if (what === 'manifest' && (name === 'HTML' || name === 'other bytes')) continue
        test(`gives way to the registry when its ${what} is ${name}`, async () => {
          await using rig = await Rig.make()
          await configure(rig)
          const paths = { manifest: '/manifests/', config: rig.image.id, layer: layerOf(rig.image).digest }
          rig.mirror.misbehave({ path: paths[what], misdeed })
          assert.equal(await rig.pull(), rig.image.id)
          assert.ok(rig.mirror.seen(paths[what]).length > 0, 'was not asked')
          assert.ok(rig.registry.seen(paths[what]).length > 0, 'the registry was not asked')
        })
      }
    }

    test('that nobody listens at gives way, and is asked last the next time', async () => {
      await using rig = await Rig.make()
      await configure(rig)
      await rig.mirror[Symbol.asyncDispose]()
      assert.equal(await rig.pull(), rig.image.id)
      const { logged } = await rig.here()
      logged.length = 0
      await rig.pull()
      assert.deepEqual(
        logged.filter((line) => line.includes('ECONNREFUSED')),
        [],
      )
    })

    test('that breaks off a layer is left for the registry, which goes on where it stopped', async () => {
      await using rig = await Rig.make({ bytes: 400_000 })
      await configure(rig)
      const { digest } = layerOf(rig.image)
      rig.mirror.misbehave({ path: digest, misdeed: { do: 'cut', afterBytes: 200_000 } })
      assert.equal(await rig.pull(), rig.image.id)
      assert.match(rig.registry.seen(digest)[0]?.headers.range ?? '', /^bytes=\d{5,6}-$/)
    })

    test('that gives other bytes of the right length gives way, and is not asked for them again', async () => {
      await using rig = await Rig.make({ bytes: 100_000 })
      await configure(rig)
      const { digest, bytes } = layerOf(rig.image)
      rig.mirror.misbehave({ path: digest, misdeed: { do: 'lie', body: randomBytes(bytes.length) } })
      assert.equal(await rig.pull(), rig.image.id)
      assert.equal(rig.mirror.seen(digest).length, 1)
    })

    test('never sees what the pod can prove, the registry does', async () => {
      for (const mirror of [
        { kind: 'basic', ...user },
        { kind: 'token', ...user },
      ] satisfies RegistryAccess[]) {
        await using rig = await Rig.make({ registry: { kind: 'basic', ...user }, mirror })
        await configure(rig)
        assert.equal(await rig.pull(user), rig.image.id)
        const shown = rig.mirror.requests.filter(({ headers, url, body }) =>
          JSON.stringify([headers.authorization ?? '', url, body]).includes('Basic'),
        )
        assert.deepEqual(shown, [])
        assert.ok(rig.registry.requests.some(({ headers }) => headers.authorization?.startsWith('Basic')))
      }
    })

    test('sees it by explicit rule', async () => {
      await using rig = await Rig.make({ registry: { kind: 'basic', ...user }, mirror: { kind: 'basic', ...user } })
      await configure(rig)
      const shareWithMirrors = { [rig.registry.host]: [rig.mirror.host] }
      await rig.here({ credentials: { ...rig.config.credentials, shareWithMirrors } })
      await rig.pull(user)
      assert.equal(rig.registry.requests.length, 0)
    })

    test('gets what the node keeps under its own name, and the registry does not', async () => {
      const nodes = { username: 'node', password: SECRET }
      await using rig = await Rig.make({ mirror: { kind: 'basic', ...nodes } })
      await configure(rig)
      const auth = Buffer.from(`node:${SECRET}`).toString('base64')
      await rig.file('auth.json', JSON.stringify({ auths: { [rig.mirror.host]: { auth } } }))
      rig.mirror.misbehave({ path: layerOf(rig.image).digest, misdeed: { do: 'answer', status: 404 } })
      assert.equal(await rig.pull(), rig.image.id)
      assert.ok(rig.mirror.requests.some(({ headers }) => headers.authorization?.startsWith('Basic')))
      assert.ok(rig.registry.requests.every(({ headers }) => headers.authorization === undefined))
    })

    test('says what everybody said when nobody has it', async () => {
      await using rig = await Rig.make()
      await configure(rig)
      rig.mirror.misbehave({ path: '/v2/', misdeed: { do: 'answer', status: 403 } })
      await assert.rejects(rig.pull(undefined, '2'), (error) => {
        assert.ok(isKind(error, 'not-found'), String(error))
        assert.match(error.message, /does not have manifest "2".*; before: .*denies access/)
        return true
      })
    })
  })
}

suite('servers of hosts.toml', () => {
  test('resolve tags and give content only as they may', async () => {
    await using rig = await Rig.make()
    await rig.toml('capabilities = ["pull"]')
    assert.equal(await rig.pull(), rig.image.id)
    assert.equal(rig.mirror.seen('/manifests/1').length, 0)
    assert.equal(rig.registry.seen('/blobs/').length, 0)
    assert.equal(rig.mirror.seen('/blobs/').length, 2)
  })

  test('are told for whom they stand in; the registry is not', async () => {
    await using rig = await Rig.make()
    await rig.toml()
    rig.mirror.misbehave({ path: '/blobs/', misdeed: { do: 'answer', status: 404 } })
    await rig.pull()
    const ns = (url: string) => new URL(url, 'http://x').searchParams.get('ns')
    assert.ok(rig.mirror.requests.every(({ url }) => ns(url) === rig.registry.host))
    assert.ok(rig.registry.requests.every(({ url }) => ns(url) === null))
  })

  test('get their headers, nobody else does', async () => {
    await using rig = await Rig.make()
    await using storage = await TestRegistry.start()
    storage.add('app', rig.image)
    await rig.toml(`[host."http://${rig.mirror.host}".header]\nX-Key = "${SECRET}"\nUser-Agent = "mine"`)
    const { digest } = layerOf(rig.image)
    const location = `http://${storage.host}/v2/app/blobs/${digest}`
    rig.mirror.misbehave({ path: digest, misdeed: { do: 'answer', status: 307, headers: { location } } })
    assert.equal(await rig.pull(), rig.image.id)
    assert.ok(
      rig.mirror.requests.every(({ headers }) => headers['x-key'] === SECRET && headers['user-agent'] === 'mine'),
    )
    for (const { headers } of [...rig.registry.requests, ...storage.requests]) {
      assert.equal(headers['x-key'], undefined)
      assert.equal(headers['user-agent'], 'cricket')
    }
    assert.equal(storage.requests.length, 1)
    assert.ok((await rig.here()).logged.every((line) => !line.includes(SECRET)))
  })

  test('may have another path for the API', async () => {
    await using rig = await Rig.make()
    await rig.file(
      `${rig.registry.host}/hosts.toml`,
      `[host."http://${rig.mirror.host}/artifactory/api"]\noverride_path = true`,
    )
    await rig.pull()
    assert.match(rig.mirror.requests[0]?.url ?? '', /^\/artifactory\/api\/app\/manifests\/1\?ns=/)
  })
})

suite('registry configuration at work', () => {
  test('a blocked registry is not asked', async () => {
    await using rig = await Rig.make()
    await rig.file('registries.conf', `[[registry]]\nlocation = "${rig.registry.host}"\nblocked = true`)
    await assert.rejects(rig.pull(), (error) => isKind(error, 'permission-denied') && /is blocked/.test(error.message))
    assert.equal(rig.registry.requests.length, 0)
  })

  test('changes count for the next pull', async () => {
    await using rig = await Rig.make()
    await rig.pull()
    assert.equal(rig.mirror.requests.length, 0)
    await rig.conf()
    await rig.pull()
    assert.ok(rig.mirror.requests.length > 0)
  })

  test('a short name means what it is configured to mean, for finding too', async () => {
    await using rig = await Rig.make()
    const { images } = await rig.here()
    await rig.file('registries.conf', `unqualified-search-registries = ["${rig.registry.host}"]`)
    const { id } = await images.pull({ reference: 'app:1' })
    assert.equal(images.resolve('app:1')?.id, id)
    assert.equal(images.resolve('docker.io/app:1'), undefined)
    assert.equal(images.resolve('app:2'), undefined)
  })

  test('several meanings are tried in order where that is allowed', async () => {
    await using rig = await Rig.make()
    const search = `unqualified-search-registries = ["${rig.mirror.host}", "${rig.registry.host}"]\n`
    await rig.file('registries.conf', search)
    const { images } = await rig.here()
    await assert.rejects(images.pull({ reference: 'other' }), (error) => isKind(error, 'invalid-argument'))
    await rig.file('registries.conf', `${search}short-name-mode = "permissive"`)
    rig.registry.add('other', rig.image, 'latest')
    const { repoTags } = await images.pull({ reference: 'other' })
    assert.deepEqual(repoTags, [`${rig.registry.host}/other:latest`])
  })

  test('pulls of two namespaces with files of their own are two', async () => {
    await using rig = await Rig.make({ registry: { kind: 'basic', ...user } })
    const auth = Buffer.from(`pod:${SECRET}`).toString('base64')
    await rig.file('blue.json', JSON.stringify({ auths: { [rig.registry.host]: { auth } } }))
    const { images } = await rig.here({ credentials: { ...rig.config.credentials, namespaceAuthDir: rig.dir } })
    const reference = `${rig.registry.host}/app:1`
    const [blue, red] = await Promise.allSettled(
      ['blue', 'red'].map((namespace) => images.pull({ reference, namespace })),
    )
    assert.equal(blue?.status, 'fulfilled')
    assert.ok(red?.status === 'rejected' && isKind(red.reason, 'permission-denied'))
  })
})
