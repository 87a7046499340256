/** Whom registries may send us to for tokens, and what a token is good for: by the addresses that a connection would be made to. */
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { isKind, RuntimeError } from '#proto/errors.ts'
import { quickTiming, recordingLog } from '../testing/test-images.ts'
import { type Connection, PLAIN_CONNECTION } from './connections.ts'
import type { Exchange, ExchangeRequest, ExchangeResponse } from './http-exchange.ts'
import { type TokenRequest, type TokenRules, Tokens } from './tokens.ts'

/** Gives tokens to everybody who could have connected to `address`. */
class Service implements Exchange {
  readonly asked: ExchangeRequest[] = []
  readonly #address: string
  readonly #answer: object

  constructor(address: string, answer: object = { token: 'given' }) {
    this.#address = address
    this.#answer = answer
  }

  async send(request: ExchangeRequest): Promise<ExchangeResponse> {
    if (!request.allows(this.#address)) throw new RuntimeError('failed-precondition', 'not there')
    this.asked.push(request)
    const body = Buffer.from(JSON.stringify(this.#answer))
    return {
      status: 200,
      headers: {},
      address: this.#address,
      body: async function* () {
        yield body
      },
      discard: () => {},
    }
  }
}

const connection: Connection = { ...PLAIN_CONNECTION, clients: [{ cert: 'c', key: 'k' }], key: 'ours' }
const host = { name: 'r.example', origin: 'https://r.example', prefix: '/v2', headers: {}, connection }
const ofPod = { kind: 'basic', username: 'pod', password: 'pass' } as const
const anyRules: TokenRules = { insecureRegistries: [], tokenServices: undefined }

const request = (realm: string, change: Partial<TokenRequest> = {}): TokenRequest => ({
  host,
  hostAddress: '192.0.2.7',
  realm,
  service: 's',
  scope: 'repository:a:pull',
  credentials: ofPod,
  ...change,
})

const ask = async (
  service: Service,
  asked: TokenRequest,
  { tokens = new Tokens(service, anyRules), logged = [] as string[] } = {},
): Promise<string> => {
  const { signal } = new AbortController()
  return (await tokens.get(asked, { timing: { ...quickTiming, attempts: 1 }, log: recordingLog(logged), signal })).token
}

const refused = async (service: Service, asked: TokenRequest, tokens?: Tokens): Promise<void> => {
  await assert.rejects(
    ask(service, asked, tokens ? { tokens } : {}),
    (error) => isKind(error, 'failed-precondition') || assert.fail(String(error)),
  )
  assert.equal(service.asked.length, 0, 'it was asked')
}

const realm = 'https://tokens.example/t'
const PUBLIC = '192.0.2.7'

suite('a token service', () => {
  const cases: [registry: string, service: string, goodness: 'good' | 'refused'][] = [
    [PUBLIC, '198.51.100.1', 'good'],
    ['10.0.0.1', '198.51.100.1', 'good'],
    ['10.0.0.1', '10.0.0.2', 'good'],
    ['127.0.0.1', '10.0.0.2', 'good'],
    [PUBLIC, '10.0.0.2', 'refused'],
    [PUBLIC, '172.16.0.1', 'refused'],
    [PUBLIC, '192.168.0.1', 'refused'],
    [PUBLIC, 'fd00::1', 'refused'],
    ...[PUBLIC, '10.0.0.1', '127.0.0.1'].flatMap((registry) =>
      ['127.0.0.1', '::1', '::ffff:127.0.0.1', '0.0.0.0', '::', '169.254.169.254', 'fd00:ec2::254', 'fe80::1'].map(
        (service): [string, string, 'refused'] => [registry, service, 'refused'],
      ),
    ),
  ]
  for (const [hostAddress, address, goodness] of cases) {
    test(`at ${address} of a registry at ${hostAddress} is ${goodness}`, async () => {
      const service = new Service(address)
      if (goodness === 'good') assert.equal(await ask(service, request(realm, { hostAddress })), 'given')
      else await refused(service, request(realm, { hostAddress }))
    })
  }

  test('of a registry behind a proxy, whose address nobody knows, has a public one', async () => {
    await refused(new Service('10.0.0.2'), request(realm, { hostAddress: undefined }))
    assert.equal(await ask(new Service(PUBLIC), request(realm, { hostAddress: undefined })), 'given')
  })

  test('without TLS gets nothing, the registry’s own port and listed ones aside', async () => {
    for (const plain of ['http://tokens.example/t', 'http://r.example/t', 'http://r.example:443/t']) {
      await refused(new Service(PUBLIC), request(plain))
    }
    const rules = { insecureRegistries: ['tokens.example'], tokenServices: undefined }
    const service = new Service('127.0.0.1')
    assert.equal(
      await ask(service, request('http://tokens.example/t'), { tokens: new Tokens(service, rules) }),
      'given',
    )
  })

  test('at another host gets no client certificate, has to prove itself, and is told in the log, once', async () => {
    const service = new Service(PUBLIC)
    const logged: string[] = []
    const tokens = new Tokens(service, anyRules)
    const lax = { ...host, connection: { ...connection, skipVerify: true } }
    for (const scope of ['a', 'b']) await ask(service, request(realm, { host: lax, scope }), { tokens, logged })
    await ask(service, request('https://r.example/t', { host: lax }), { tokens, logged })
    const [first, , own] = service.asked.map((each) => each.connection)
    assert.deepEqual([first?.clients, first?.skipVerify], [[], false])
    assert.deepEqual([own?.clients, own?.skipVerify], [connection.clients, true])
    assert.equal(logged.length, 1, logged.join('\n'))
    assert.match(logged[0] ?? '', /"registry":"r\.example","service":"https:\/\/tokens\.example\/t"/)
    assert.doesNotMatch(logged[0] ?? '', /pass/)
    const quiet: string[] = []
    await ask(service, request(realm, { credentials: { kind: 'anonymous' } }), { logged: quiet })
    assert.deepEqual(quiet, [])
  })

  test('at another host must be listed where the operator lists them', async () => {
    const rules = (...tokenServices: string[]): TokenRules => ({ insecureRegistries: [], tokenServices })
    for (const listed of [[], ['other.example'], ['tokens.example:8443'], ['example']]) {
      const service = new Service(PUBLIC)
      await refused(service, request(realm), new Tokens(service, rules(...listed)))
      const credentials = { kind: 'anonymous' } as const
      await refused(service, request(realm, { credentials }), new Tokens(service, rules(...listed)))
    }
    for (const [at, ...listed] of [
      [realm, 'tokens.example'],
      ['https://tokens.example:8443/t', 'tokens.example:8443'],
      ['https://r.example/t'],
      ['https://r.example:8443/t'],
    ] as const) {
      const service = new Service(PUBLIC)
      assert.equal(await ask(service, request(at), { tokens: new Tokens(service, rules(...listed)) }), 'given', at)
    }
  })
})

suite('a token', () => {
  test('lives by our own clock, whatever the service believes the time to be', async () => {
    for (const issued_at of ['1990-01-01T00:00:00Z', '2090-01-01T00:00:00Z', 'yesterday']) {
      const service = new Service(PUBLIC, { token: 'x', expires_in: 300, issued_at })
      const tokens = new Tokens(service, anyRules)
      for (let count = 0; count < 3; count++) await ask(service, request(realm), { tokens })
      assert.equal(service.asked.length, 1, issued_at)
    }
  })

  test('is found again only with the same registry, service, scope and credentials', async () => {
    const service = new Service(PUBLIC)
    const tokens = new Tokens(service, anyRules)
    const all = [
      request(realm),
      request(realm, { scope: 'repository:b:pull' }),
      request(realm, { service: 'other' }),
      request('https://tokens.example/other'),
      request(realm, { host: { ...host, origin: 'https://r.example:8443' } }),
      request(realm, { credentials: { ...ofPod, password: 'other' } }),
      request(realm, { credentials: { kind: 'anonymous' } }),
      request(realm, { credentials: { kind: 'refresh', token: 'pass' } }),
    ]
    for (const each of [...all, ...all]) await ask(service, each, { tokens })
    assert.equal(service.asked.length, all.length)
  })
})
