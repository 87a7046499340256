import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { suite, test } from 'node:test'
import { type ErrorKind, isKind } from '#proto/errors.ts'
import type { RegistryAuth } from './image-store.ts'
import { buildImage, buildLayer } from './testing/image-builder.ts'
import { type RegistryAccess, TestRegistry } from './testing/registry.ts'
import { TestImages } from './testing/test-images.ts'

/** In every secret of these tests, so that one search finds any of them. */
const MARKER = 'tOpSeCrEt'
const PASSWORD = `${MARKER}:pass`
const user = { username: `user-${MARKER}`, password: PASSWORD }
const anImage = async () => buildImage({ layers: [await buildLayer({ a: '' })] })

const nowhereIn = (texts: readonly string[]): void => {
  for (const text of texts) {
    assert.ok(!text.includes(MARKER), text)
    assert.ok(!text.includes(Buffer.from(`${user.username}:${PASSWORD}`).toString('base64')), text)
  }
}

/** Every text that could be shown to somebody: message, stack and causes. */
const textsOf = (error: unknown): string[] =>
  error instanceof Error ? [String(error), error.stack ?? '', JSON.stringify(error), ...textsOf(error.cause)] : []

const pullFrom = async (
  access: RegistryAccess,
  auth: RegistryAuth | undefined,
  expected: 'good' | ErrorKind,
  config: { insecureRegistries: string[] } = { insecureRegistries: [] },
): Promise<TestRegistry> => {
  await using registry = await TestRegistry.start(access)
  await using here = await TestImages.open({ config })
  registry.add('team/app', await anImage(), 'latest')
  const pull = here.images.pull({ reference: `${registry.host}/team/app`, ...(auth && { auth }) })
  const [result] = await Promise.allSettled([pull])
  nowhereIn(here.logged)
  if (expected === 'good') {
    assert.equal(result.status, 'fulfilled', String(result.status === 'rejected' && result.reason))
  } else {
    assert.ok(
      result.status === 'rejected' && isKind(result.reason, expected),
      String(result.status === 'rejected' ? result.reason : 'pulled'),
    )
    nowhereIn(textsOf(result.reason))
  }
  return registry
}

suite('pull with credentials', () => {
  const encoded = Buffer.from(`${user.username}:${PASSWORD}`).toString('base64')

  test('basic', async () => {
    const access: RegistryAccess = { kind: 'basic', ...user }
    const registry = await pullFrom(access, user, 'good')
    assert.equal(registry.requests[0]?.headers.authorization, undefined, 'sent without being asked')
    await pullFrom(access, { auth: encoded }, 'good')
    await pullFrom(access, { ...user, password: `${MARKER} wrong` }, 'permission-denied')
    await pullFrom(access, { identityToken: MARKER }, 'permission-denied')
    await pullFrom(access, undefined, 'permission-denied')
    await pullFrom(access, { ...user, serverAddress: 'elsewhere.example' }, 'permission-denied')
  })

  test('token for anybody', async () => {
    const registry = await pullFrom({ kind: 'token' }, undefined, 'good')
    assert.equal(registry.seen('/token').length, 1, 'one token serves the whole pull')
    const query = new URL(registry.seen('/token')[0]?.url ?? '', 'http://x').searchParams
    assert.equal(query.get('service'), 'test registry')
    assert.equal(query.get('scope'), 'repository:team/app:pull')
  })

  test('token for user and password', async () => {
    const access: RegistryAccess = { kind: 'token', ...user }
    const registry = await pullFrom(access, user, 'good')
    const withPassword = registry.requests.filter(({ headers }) => headers.authorization?.startsWith('Basic'))
    assert.ok(
      withPassword.every(({ url }) => url.startsWith('/token')),
      'password sent to the registry itself',
    )
    await pullFrom(access, { ...user, password: `${MARKER} wrong` }, 'permission-denied')
    await pullFrom(access, undefined, 'permission-denied')
  })

  test('token for an identity token', async () => {
    const access: RegistryAccess = { kind: 'token', ...user, refreshToken: `${MARKER}-refresh` }
    const registry = await pullFrom(access, { identityToken: `${MARKER}-refresh` }, 'good')
    const [request] = registry.seen('/token')
    assert.equal(request?.method, 'POST')
    assert.ok(!request?.url.includes(MARKER))
    assert.equal(new URLSearchParams(request?.body).get('grant_type'), 'refresh_token')
    await pullFrom(access, { identityToken: `${MARKER}-other` }, 'permission-denied')
  })

  test('registry token as it is', async () => {
    const access: RegistryAccess = { kind: 'bearer', token: `${MARKER}-token` }
    await pullFrom(access, { registryToken: `${MARKER}-token` }, 'good')
    const refused = await pullFrom(access, { registryToken: `${MARKER}-other` }, 'permission-denied')
    assert.equal(refused.requests.length, 1)
  })

  test('of another pod are never used', async () => {
    await using registry = await TestRegistry.start({ kind: 'token', ...user })
    await using here = await TestImages.open()
    const image = await anImage()
    registry.add('app', image, 'latest')
    const reference = `${registry.host}/app`
    await here.images.pull({ reference, auth: user })
    // Also not for an image that is here, by whatever name (C18).
    for (const name of [reference, `${reference}@${image.digest}`])
      await assert.rejects(here.images.pull({ reference: name }), (error) => isKind(error, 'permission-denied'))
  })

  test('a token is kept for the next pull, and renewed once when it died', async () => {
    await using registry = await TestRegistry.start({ kind: 'token', ...user })
    await using here = await TestImages.open()
    registry.add('app', await anImage(), 'latest')
    const pull = () => here.images.pull({ reference: `${registry.host}/app`, auth: user })
    await pull()
    await pull()
    assert.equal(registry.seen('/token').length, 1)
    registry.revokeTokens()
    await pull()
    assert.equal(registry.seen('/token').length, 2)
  })

  test('a token that dies in the middle of a pull is renewed', async () => {
    await using registry = await TestRegistry.start({ kind: 'token' })
    await using here = await TestImages.open()
    const image = await anImage()
    registry.add('app', image, 'latest')
    registry.misbehave({
      path: image.id,
      times: 1,
      misdeed: { do: 'hold', until: async () => registry.revokeTokens() },
    })
    await here.images.pull({ reference: `${registry.host}/app` })
    assert.equal(registry.seen('/token').length, 2)
  })

  test('a token service that fails is tried again, one that is down is RegistryUnavailable', async () => {
    await using registry = await TestRegistry.start({ kind: 'token' })
    await using here = await TestImages.open()
    registry.add('app', await anImage(), 'latest')
    registry.misbehave({ path: '/token', times: 2, misdeed: { do: 'answer', status: 503 } })
    const reference = `${registry.host}/app`
    await here.images.pull({ reference })
    registry.revokeTokens()
    registry.misbehave({ path: '/token', misdeed: { do: 'answer', status: 503 } })
    await assert.rejects(here.images.pull({ reference }), (error) => isKind(error, 'registry-unavailable'))
  })

  for (const body of ['', '{}', '{"token":7}', '{"token":"a b"}', '{"token":"a\\r\\nX: y"}', '<html>']) {
    test(`refuses the token answer ${JSON.stringify(body)}`, async () => {
      await using registry = await TestRegistry.start({ kind: 'token' })
      await using here = await TestImages.open()
      registry.add('app', await anImage(), 'latest')
      registry.misbehave({ path: '/token', misdeed: { do: 'answer', status: 200, body } })
      await assert.rejects(here.images.pull({ reference: `${registry.host}/app` }), (error) =>
        isKind(error, 'failed-precondition'),
      )
    })
  }
})

suite('credentials go nowhere else', () => {
  /** Listens, writes down who comes, answers 200. */
  const trap = async () => {
    const seen: { url: string; headers: Record<string, unknown> }[] = []
    const server = createServer(({ url = '', headers }, response) => {
      seen.push({ url, headers })
      response.end('{"token":"x"}')
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const host = `127.0.0.1:${(server.address() as AddressInfo).port}`
    return { seen, host, [Symbol.asyncDispose]: async () => void server.close().closeAllConnections() }
  }

  const realms = [
    'http://registry.example/token',
    'https://169.254.169.254/token',
    'https://[fd00:ec2::254]/token',
    'https://[::ffff:169.254.169.254]/token',
    'https://0.0.0.0/token',
    'https://[::]/token',
    'https://2130706433/token',
    'https://0x7f.1/token',
    'https://localhost/token',
    'https://127.0.0.1/token',
    'https://user@registry.example/token',
    'file:///etc/shadow',
    'unix:/run/x.sock',
    'javascript:alert(1)',
    '/token',
    '',
    `https://registry.example/${'a'.repeat(5000)}`,
  ]
  for (const realm of realms) {
    test(`not to the realm ${JSON.stringify(realm.slice(0, 50))}`, async () => {
      // An empty realm cannot be told apart from the default of the test registry.
      const access: RegistryAccess = { kind: 'token', ...user, realm: realm === '' ? 'x' : realm }
      await pullFrom(access, user, 'failed-precondition')
    })
  }

  test('not to another port of this machine, unless the operator lists it', async () => {
    await using other = await trap()
    const access: RegistryAccess = { kind: 'token', ...user, realm: `http://${other.host}/token` }
    await pullFrom(access, user, 'failed-precondition')
    assert.equal(other.seen.length, 0)
    await pullFrom(access, user, 'permission-denied', { insecureRegistries: [other.host] })
    assert.equal(other.seen.length, 1)
  })

  for (const status of [301, 302, 303, 307, 308]) {
    test(`not along a redirect with ${status} to another origin`, async () => {
      await using storage = await TestRegistry.start()
      await using registry = await TestRegistry.start({ kind: 'token', ...user })
      await using here = await TestImages.open()
      const image = await anImage()
      const { digest } = image.layers[0] ?? assert.fail()
      registry.add('app', image, 'latest')
      storage.add('app', image)
      // Through the storage back to the registry's own origin would be the trick; the storage is open, so this is enough.
      const location = `http://${storage.host}/v2/app/blobs/${digest}?signature=${MARKER}`
      registry.misbehave({ path: digest, misdeed: { do: 'answer', status, headers: { location } } })
      await here.images.pull({ reference: `${registry.host}/app`, auth: user })
      const [request] = storage.seen(digest)
      assert.ok(request)
      for (const name of ['authorization', 'cookie', 'proxy-authorization'])
        assert.equal(request.headers[name], undefined)
      nowhereIn(here.logged)
    })
  }

  test('not back to the registry once a redirect has left it', async () => {
    await using storage = await TestRegistry.start()
    await using registry = await TestRegistry.start({ kind: 'basic', ...user })
    await using here = await TestImages.open()
    const image = await anImage()
    const { digest } = image.layers[0] ?? assert.fail()
    registry.add('app', image, 'latest')
    const away = `http://${storage.host}/x`
    const back = `http://${registry.host}/v2/other/blobs/${digest}`
    registry.misbehave({
      path: `/v2/app/blobs/${digest}`,
      misdeed: { do: 'answer', status: 307, headers: { location: away } },
    })
    storage.misbehave({ path: '/x', misdeed: { do: 'answer', status: 307, headers: { location: back } } })
    await assert.rejects(here.images.pull({ reference: `${registry.host}/app`, auth: user }))
    assert.ok(registry.seen('/v2/other/').length > 0)
    assert.ok(registry.seen('/v2/other/').every(({ headers }) => headers.authorization === undefined))
  })

  test('not to a storage that asks for them, whose failure is not the last word', async () => {
    // A service of the storage's choice that passes every check, as any public one with TLS does.
    await using service = await trap()
    await using storage = await TestRegistry.start({ kind: 'token', ...user, realm: `http://${service.host}/token` })
    // Has not asked for anything, so that the first who does is the storage.
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open({ config: { insecureRegistries: [service.host] } })
    const image = await anImage()
    const { digest } = image.layers[0] ?? assert.fail()
    registry.add('app', image, 'latest')
    const location = `http://${storage.host}/v2/app/blobs/${digest}?signature=${MARKER}`
    registry.misbehave({ path: digest, times: 1, misdeed: { do: 'answer', status: 307, headers: { location } } })
    await here.images.pull({ reference: `${registry.host}/app`, auth: user })
    assert.deepEqual(service.seen, [])
    assert.equal(storage.requests.length, 1)
    assert.equal(registry.seen(digest).length, 2)
  })

  const bad: Record<string, string> = {
    'no HTTP': 'file:///etc/passwd',
    credentials: `http://user:${MARKER}@127.0.0.1/x`,
    'link-local': 'http://169.254.169.254/latest/meta-data',
    nonsense: 'http://[',
  }
  for (const [name, location] of Object.entries(bad)) {
    test(`a redirect to ${name} is refused`, async () => {
      await using registry = await TestRegistry.start()
      await using here = await TestImages.open()
      registry.add('app', await anImage(), 'latest')
      registry.misbehave({ path: '/manifests/', misdeed: { do: 'answer', status: 307, headers: { location } } })
      const error: unknown = await here.images.pull({ reference: `${registry.host}/app` }).catch((reason) => reason)
      assert.ok(isKind(error, 'failed-precondition'), String(error))
      nowhereIn([...textsOf(error), ...here.logged])
    })
  }

  test('redirects end after five', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    registry.add('app', await anImage(), 'latest')
    registry.misbehave({
      path: '/manifests/',
      misdeed: { do: 'answer', status: 302, headers: { location: '/v2/app/manifests/latest' } },
    })
    await assert.rejects(here.images.pull({ reference: `${registry.host}/app` }), (error) =>
      isKind(error, 'failed-precondition'),
    )
    assert.equal(registry.requests.length, 6)
  })
})
