import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import { buildImage } from '../testing/image-builder.ts'
import { TestRegistry } from '../testing/registry.ts'
import { quickTiming } from '../testing/test-images.ts'
import { RegistryClient } from './client.ts'
import { PLAIN_CONNECTION } from './connections.ts'
import { HttpExchange } from './http-exchange.ts'
import { Tokens } from './tokens.ts'

/** The blob store would catch these too; here nothing stands behind the client. */
suite('registry client', () => {
  const wanted = buildImage({ config: { Cmd: ['wanted'] } })
  const other = buildImage({ config: { Cmd: ['others'] } })
  const { signal } = new AbortController()

  const withClient = async (work: (client: RegistryClient, registry: TestRegistry) => Promise<void>): Promise<void> => {
    await using registry = await TestRegistry.start()
    registry.add('app', wanted, 'latest')
    const exchange = new HttpExchange(quickTiming, {})
    const tokens = new Tokens(exchange, { insecureRegistries: [], tokenServices: undefined })
    const { host: name } = registry
    const host = { name, origin: `http://${name}`, prefix: '/v2', headers: {}, connection: PLAIN_CONNECTION }
    const credentials = { get: async () => ({ kind: 'anonymous' }) as const }
    try {
      await work(
        new RegistryClient({ host, path: 'app', credentials, exchange, tokens, timing: quickTiming, log: silentLog }),
        registry,
      )
    } finally {
      exchange.close()
    }
  }

  test('hashes a manifest that was asked for by digest', () =>
    withClient(async (client, registry) => {
      assert.deepEqual((await client.document({ digest: wanted.digest }, signal)).bytes, wanted.bytes)
      registry.misbehave({ path: wanted.digest, misdeed: { do: 'lie', body: other.bytes } })
      await assert.rejects(client.document({ digest: wanted.digest }, signal), (error) =>
        isKind(error, 'failed-precondition'),
      )
    }))

  test('says the digest of what came for a tag', () =>
    withClient(async (client) =>
      assert.equal((await client.document({ tag: 'latest' }, signal)).digest, wanted.digest),
    ))

  test('takes a part of a blob only when it is exactly the one that was asked for', () =>
    withClient(async (client, registry) => {
      const bytes = wanted.blobs.get(wanted.id) ?? assert.fail()
      const size = bytes.length
      const descriptor = { mediaType: '', digest: wanted.id, size }
      const ask = async (range: string | undefined, end?: number): Promise<number> => {
        registry.behave()
        const headers: Record<string, string> = range === undefined ? {} : { 'content-range': range }
        registry.misbehave({
          path: wanted.id,
          misdeed: { do: 'answer', status: 206, headers, body: bytes.subarray(5) },
        })
        const { offset, discard } = await client.blob(descriptor, 5, signal, end)
        discard()
        return offset
      }
      for (const good of [`bytes 5-${size - 1}/${size}`, `bytes 5-${size - 1}/*`]) assert.equal(await ask(good), 5)
      assert.equal(await ask(`bytes 5-9/${size}`, 10), 5)
      const bad = [`bytes 4-${size - 1}/${size}`, `bytes 6-${size - 1}/${size}`, `bytes 5-${size - 2}/${size}`]
      const worse = [`bytes 5-${size - 1}/${size + 1}`, `bytes 5-${size}/${size}`, `bytes=5-${size - 1}/${size}`]
      for (const range of [...bad, ...worse, 'bytes 5-', '', undefined]) {
        await assert.rejects(ask(range), (error) => isKind(error, 'failed-precondition'), String(range))
      }
      await assert.rejects(ask(`bytes 5-10/${size}`, 10), (error) => isKind(error, 'failed-precondition'))
    }))

  test('hashes a small blob', () =>
    withClient(async (client, registry) => {
      const bytes = wanted.blobs.get(wanted.id) ?? assert.fail()
      const descriptor = { mediaType: '', digest: wanted.id, size: bytes.length }
      assert.deepEqual(await client.smallBlob(descriptor, signal), bytes)
      const body = other.blobs.get(other.id) ?? assert.fail()
      assert.equal(body.length, bytes.length)
      registry.misbehave({ path: wanted.id, misdeed: { do: 'lie', body } })
      await assert.rejects(client.smallBlob(descriptor, signal), (error) => isKind(error, 'failed-precondition'))
    }))
})
