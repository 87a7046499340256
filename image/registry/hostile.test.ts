import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { type ErrorKind, isKind } from '#proto/errors.ts'
import { type BuiltImage, buildImage, buildLayer } from '../testing/image-builder.ts'
import { type RegistryAccess, TestRegistry } from '../testing/registry.ts'
import { quickTiming, TestImages } from '../testing/test-images.ts'
import { endlessly, RawServer, type Script } from './testing/raw-server.ts'

const SECRET = 'tOpSeCrEt'
const user = { username: `user-${SECRET}`, password: `${SECRET}:pass` }
const encoded = Buffer.from(`${user.username}:${user.password}`).toString('base64')
const anImage = async (): Promise<BuiltImage> => buildImage({ layers: [await buildLayer({ a: 'b' })] })

const textsOf = (error: unknown): string[] =>
  error instanceof Error ? [String(error), error.stack ?? '', JSON.stringify(error), ...textsOf(error.cause)] : []

const showsNoSecret = (error: unknown, { logged }: TestImages): void => {
  for (const text of [...textsOf(error), ...logged]) {
    assert.ok(!text.includes(SECRET) && !text.includes(encoded), text)
  }
}

/** The pull ends with one of these kinds, soon, and says no secret. */
const pullFails = async (host: string, kinds: readonly ErrorKind[]): Promise<Error> => {
  const timing = { ...quickTiming, idleMs: 300, responseMs: 300, connectMs: 300, attempts: 2, documentMs: 1_000 }
  await using here = await TestImages.open({ timing })
  const error: unknown = await here.images
    .pull({ reference: `${host}/app:1`, auth: user })
    .then(() => assert.fail('the pull succeeded'))
    .catch((reason: unknown) => reason)
  assert.ok(error instanceof Error && kinds.some((kind) => isKind(error, kind)), String(error))
  showsNoSecret(error, here)
  assert.deepEqual(here.images.list(), [])
  return error
}

suite('a registry that breaks HTTP', () => {
  const head = 'HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\n'
  const scripts: Record<string, Script> = {
    'nothing at all': () => {},
    'an end without an answer': (socket) => void socket.end(),
    garbage: (socket) => void socket.end('\0\x01\x02 no HTTP \xff\r\n\r\n'),
    'provisional answers for ever': (socket) => endlessly(socket, 'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n'),
    'headers for ever': (socket) => {
      socket.write('HTTP/1.1 200 OK\r\n')
      return endlessly(socket, `X-${'y'.repeat(100)}: ${'z'.repeat(8000)}\r\n`)
    },
    'a status line for ever': (socket) => endlessly(socket, 'HTTP/1.1 200 '.padEnd(4096, 'x')),
    'two lengths': (socket) => void socket.end(`${head}Content-Length: 2\r\nContent-Length: 5\r\n\r\n{}xyz`),
    'a length and chunks': (socket) =>
      void socket.end(`${head}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`),
    'a negative length': (socket) => void socket.end(`${head}Content-Length: -1\r\n\r\n{}`),
    'chunks that are none': (socket) => void socket.end(`${head}Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n`),
    'a chunk larger than the world': (socket) =>
      void socket.write(`${head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}`),
    'a switch of protocols': (socket) =>
      void socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n'),
    'a header with a line break': (socket) =>
      void socket.end('HTTP/1.1 307 x\r\nLocation: http://a/\nX: y\r\nContent-Length: 0\r\n\r\n'),
  }
  for (const [name, script] of Object.entries(scripts)) {
    test(`${name} ends the pull, not the daemon`, async () => {
      await using server = await RawServer.start(script)
      await pullFails(server.host, ['registry-unavailable', 'failed-precondition', 'resource-exhausted'])
      assert.ok(
        server.requests.every((request) => !request.includes('uthorization')),
        'showed credentials unasked',
      )
    })
  }

  test('HTTP/1.0 is good enough', async () => {
    const image = await anImage()
    const bodies = new Map<string, Buffer>([
      ['/manifests/1', image.bytes],
      ...[...image.blobs].map(([digest, bytes]) => [`/blobs/${digest}`, bytes] as const),
    ])
    await using server = await RawServer.start((socket, request) => {
      const path = request.split(' ')[1] ?? ''
      const [, body = Buffer.alloc(0)] = [...bodies].find(([end]) => path.endsWith(end)) ?? []
      socket.write(`HTTP/1.0 200 OK\r\nContent-Type: ${path.includes('manifests') ? image.mediaType : 'x/y'}\r\n\r\n`)
      socket.end(body)
    })
    await using here = await TestImages.open()
    assert.equal((await here.images.pull({ reference: `${server.host}/app:1` })).id, image.id)
  })
})

suite('a registry that plays with challenges', () => {
  /** Every request is answered by this challenge. */
  const challenged = (value: string): Script => {
    const length = 'Content-Length: 0\r\n\r\n'
    return (socket) => void socket.write(`HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: ${value}\r\n${length}`)
  }
  const tried = (server: RawServer): string[] =>
    server.requests.flatMap((request) => /^authorization: (\w+)/im.exec(request)?.[1] ?? [])

  test('gets user and password once when it asks for nothing else', async () => {
    await using server = await RawServer.start(challenged('Basic realm="x"'))
    await pullFails(server.host, ['permission-denied'])
    assert.deepEqual(tried(server), ['Basic'])
    assert.equal(server.requests.length, 2, 'no loop')
  })

  const neverBasic: Record<string, string> = {
    'Basic beside Bearer': 'Basic realm="x", Bearer realm="http://192.0.2.1/t",service="s"',
    'Bearer beside Basic': 'Bearer realm="http://192.0.2.1/t",service="s", Basic realm="x"',
    'two Bearers': 'Bearer realm="http://192.0.2.1/a", Bearer realm="http://192.0.2.2/b"',
    'a quote that does not end': 'Basic realm="x',
    'a parameter twice': 'Bearer realm="http://192.0.2.1/a",realm="http://192.0.2.2/b"',
    'an unknown scheme': 'Negotiate abcdef==',
    'an empty challenge': '',
    '8 KiB': `Basic realm="${'x'.repeat(9000)}"`,
  }
  for (const [name, value] of Object.entries(neverBasic)) {
    test(`gets no password by ${name}`, async () => {
      await using server = await RawServer.start(challenged(value))
      await pullFails(server.host, ['permission-denied', 'failed-precondition', 'registry-unavailable'])
      assert.deepEqual(tried(server), [])
    })
  }

  test('whose tokens are never good enough is asked for no more than one new one', async () => {
    const access: RegistryAccess = { kind: 'token', ...user }
    await using registry = await TestRegistry.start(access)
    registry.add('app', await anImage(), '1')
    const challenge = `Bearer realm="http://${registry.host}/token",service="s",scope="repository:app:pull"`
    registry.misbehave({
      path: '/v2/',
      misdeed: { do: 'answer', status: 401, headers: { 'www-authenticate': challenge } },
    })
    await pullFails(registry.host, ['permission-denied'])
    assert.equal(registry.seen('/token').length, 1)
    assert.equal(registry.seen('/v2/').length, 2)
    const basic = registry.requests.filter(({ headers }) => headers.authorization?.startsWith('Basic'))
    assert.ok(basic.every(({ url }) => url.startsWith('/token')))
  })

  test('gets a token for each repository, each only where it belongs', async () => {
    await using registry = await TestRegistry.start({ kind: 'token', ...user })
    await using here = await TestImages.open()
    for (const name of ['one', 'two']) registry.add(name, await anImage(), '1')
    const tokens = new Map<string, Set<string>>()
    for (const name of ['one', 'two', 'one']) {
      registry.requests.length = 0
      await here.images.pull({ reference: `${registry.host}/${name}:1`, auth: user })
      const used = registry.seen(`/v2/${name}/`).flatMap(({ headers }) => headers.authorization ?? [])
      tokens.set(name, new Set([...(tokens.get(name) ?? []), ...used]))
    }
    const [one, two] = [tokens.get('one'), tokens.get('two')]
    assert.deepEqual([one?.size, two?.size], [1, 1])
    assert.notDeepEqual(one, two)
  })
})

suite('what a failure says', () => {
  const statuses = [301, 400, 401, 403, 404, 410, 418, 429, 500, 502, 503, 504]
  for (const status of statuses) {
    test(`status ${status} behind a presigned redirect shows nothing of it`, async () => {
      const image = await anImage()
      const { digest } = image.layers[0] ?? assert.fail()
      await using storage = await TestRegistry.start()
      await using registry = await TestRegistry.start({ kind: 'basic', ...user })
      registry.add('app', image, '1')
      const location = `http://${storage.host}/x/${digest}?signature=${SECRET}`
      registry.misbehave({ path: digest, misdeed: { do: 'answer', status: 307, headers: { location } } })
      const body = `{"errors":[{"code":"${SECRET}","message":"${encoded} ${SECRET}"}]}`
      storage.misbehave({ path: '/x/', misdeed: { do: 'answer', status, headers: { 'x-echo': SECRET }, body } })
      await pullFails(registry.host, ['registry-unavailable', 'not-found', 'permission-denied', 'failed-precondition'])
      assert.ok(storage.requests.length > 0)
      assert.ok(storage.requests.every(({ headers }) => headers.authorization === undefined))
    })
  }

  test('a presigned address that leads to nowhere shows nothing of it', async () => {
    const image = await anImage()
    const { digest } = image.layers[0] ?? assert.fail()
    await using storage = await TestRegistry.start()
    await using registry = await TestRegistry.start()
    registry.add('app', image, '1')
    const location = `http://${storage.host}/x/${digest}?signature=${SECRET}`
    registry.misbehave({ path: digest, misdeed: { do: 'answer', status: 307, headers: { location } } })
    const nowhere = { location: 'file:///etc/shadow' }
    storage.misbehave({ path: '/x/', misdeed: { do: 'answer', status: 307, headers: nowhere } })
    const { message } = await pullFails(registry.host, ['failed-precondition'])
    assert.ok(message.includes(storage.host), message)
  })

  test('a name that has a password in it is refused without it', async () => {
    await using here = await TestImages.open()
    for (const reference of [`user:${SECRET}@r.example/app`, `user:${SECRET}@x@r.example/app`]) {
      await assert.rejects(here.images.pull({ reference }), (error) => {
        assert.ok(isKind(error, 'invalid-argument') && !error.message.includes(SECRET), String(error))
        return true
      })
    }
  })
})
