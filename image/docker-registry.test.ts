import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { DockerRegistry, hasDockerRegistry, login } from './testing/docker-registry.ts'
import {
  type BuiltImage,
  type BuiltIndex,
  buildImage,
  buildIndex,
  buildLayer,
  testHost,
} from './testing/image-builder.ts'
import { TestRegistry } from './testing/registry.ts'
import { TestImages } from './testing/test-images.ts'

interface Registry extends AsyncDisposable {
  readonly host: string
  push(repository: string, image: BuiltImage | BuiltIndex, tag?: string): Promise<void>
}

/** The test registry must answer as the real one does. */
const registries: Record<string, { missing: string | false; start: (withLogin: boolean) => Promise<Registry> }> = {
  'docker-registry': {
    missing: !hasDockerRegistry() && 'host lacks docker-registry',
    start: (withLogin) => DockerRegistry.start({ withLogin }),
  },
  'the test registry': {
    missing: false,
    start: async (withLogin) => {
      const registry = await TestRegistry.start(withLogin ? { kind: 'basic', ...login } : { kind: 'open' })
      return {
        host: registry.host,
        push: async (...what) => registry.add(...what),
        [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose](),
      }
    },
  },
}

for (const [name, { missing, start }] of Object.entries(registries)) {
  suite(`pull from ${name}`, { skip: missing }, () => {
    test('every dialect and compression, by tag and by digest', async () => {
      await using registry = await start(false)
      await using here = await TestImages.open()
      for (const dialect of ['oci', 'docker'] as const) {
        const layers = [
          await buildLayer({ [dialect]: randomBytes(100_000) }, 'gzip'),
          await buildLayer({ b: '' }, 'none'),
        ]
        const image = buildImage({
          dialect,
          layers: dialect === 'oci' ? [...layers, await buildLayer({ c: '' }, 'zstd')] : layers,
        })
        const index = buildIndex([{ image, platform: testHost }], dialect)
        await registry.push(`team/${dialect}`, image, 'single')
        await registry.push(`team/${dialect}`, index, 'index')
        const repository = `${registry.host}/team/${dialect}`
        for (const reference of [
          `${repository}:single`,
          `${repository}:index`,
          `${repository}@${image.digest}`,
          `${repository}@${index.digest}`,
        ]) {
          assert.equal((await here.images.pull({ reference })).id, image.id, reference)
        }
        assert.deepEqual([...(here.images.resolve(image.id)?.repoTags ?? [])].sort(), [
          `${repository}:index`,
          `${repository}:single`,
        ])
        await here.images.remove(image.id)
      }
      assert.deepEqual(here.storage.layers.list(), [])
    })

    test('an unknown image is not found', async () => {
      await using registry = await start(false)
      await using here = await TestImages.open()
      for (const path of ['nothing', `nothing@sha256:${'0'.repeat(64)}`]) {
        const pull = here.images.pull({ reference: `${registry.host}/${path}` })
        await assert.rejects(pull, (error) => isKind(error, 'not-found'))
      }
    })

    test('a blob is resumed', async () => {
      await using registry = await start(false)
      await using here = await TestImages.open()
      const layer = await buildLayer({ noise: randomBytes(500_000) }, 'none')
      await registry.push('app', buildImage({ layers: [layer] }), 'latest')
      const broken = here.storage.blobs.put(
        layer.digest,
        (async function* () {
          yield layer.bytes.subarray(0, 300_000)
          throw new Error('cut')
        })(),
      )
      await assert.rejects(broken, /cut/)
      await here.images.pull({ reference: `${registry.host}/app` })
      assert.ok(here.storage.layers.has(layer.diffId))
    })

    test('with a login', async () => {
      await using registry = await start(true)
      await using here = await TestImages.open()
      await registry.push('app', buildImage({ layers: [await buildLayer({ a: '' })] }), 'latest')
      const reference = `${registry.host}/app`
      for (const auth of [undefined, { ...login, password: 'other' }]) {
        await assert.rejects(here.images.pull({ reference, ...(auth && { auth }) }), (error) =>
          isKind(error, 'permission-denied'),
        )
      }
      await here.images.pull({ reference, auth: login })
    })
  })
}
