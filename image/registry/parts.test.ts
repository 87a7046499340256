import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { basicHeader, credentialsKey, readCredentials } from '../credentials/credentials.ts'
import { parseReference } from '../reference.ts'
import { planRoute } from '../registries/plan-route.ts'
import { EMPTY_CONF } from '../registries/registries-conf.ts'
import { isServerOf } from './hosts.ts'
import { errorCodes, printable, refusal } from './registry-error.ts'
import { pauseMs, readRetryAfter } from './retry.ts'
import { defaultTiming } from './timing.ts'

suite('registry hosts', () => {
  const originsOf = (domain: string, insecureRegistries: string[]): string =>
    planRoute({ conf: EMPTY_CONF, certsDirs: [], insecureRegistries }, parseReference(`${domain}/x`))
      .endpoints.map(({ origin }) => origin)
      .join(' ')

  const cases: [domain: string, listed: string[], origin: string][] = [
    ['docker.io', [], 'https://registry-1.docker.io'],
    ['r.example', [], 'https://r.example'],
    ['r.example:8443', [], 'https://r.example:8443'],
    ['r.example:5000', ['r.example:5000'], 'https://r.example:5000 http://r.example:5000'],
    ['r.example:5000', ['r.example'], 'https://r.example:5000'],
    ['localhost:5000', [], 'http://localhost:5000'],
    ['127.9.9.9', [], 'http://127.9.9.9'],
    ['[::1]:5000', [], 'http://[::1]:5000'],
    ['localhost:443', [], 'https://localhost'],
    ['localhost.example', [], 'https://localhost.example'],
    ['127.0.0.1.example', [], 'https://127.0.0.1.example'],
    ['[::2]:5000', [], 'https://[::2]:5000'],
    ['10.0.0.1:5000', [], 'https://10.0.0.1:5000'],
  ]
  for (const [domain, listed, origin] of cases) {
    test(`${domain} with ${JSON.stringify(listed)} is ${origin}`, () => assert.equal(originsOf(domain, listed), origin))
  }

  test('knows its server address', () => {
    assert.ok(isServerOf('https://index.docker.io/v1/', 'docker.io'))
    assert.ok(isServerOf('R.example:5000', 'r.example:5000'))
    assert.ok(!isServerOf('r.example', 'r.example:5000'))
    assert.ok(!isServerOf('https://evil.example/r.example', 'r.example'))
  })
})

suite('credentials', () => {
  const encoded = Buffer.from('user:pa:ss\0\0').toString('base64')

  test('reads each kind, the most specific first', () => {
    assert.deepEqual(readCredentials(undefined, 'r'), { kind: 'anonymous' })
    assert.deepEqual(readCredentials({}, 'r'), { kind: 'anonymous' })
    const basic = { kind: 'basic', username: 'user', password: 'pa:ss' }
    assert.deepEqual(readCredentials({ username: 'user', password: 'pa:ss' }, 'r'), basic)
    assert.deepEqual(readCredentials({ auth: encoded }, 'r'), basic)
    assert.deepEqual(readCredentials({ auth: encoded, identityToken: 'i' }, 'r'), { kind: 'refresh', token: 'i' })
    assert.deepEqual(readCredentials({ identityToken: 'i', registryToken: 't' }, 'r'), { kind: 'bearer', token: 't' })
  })

  test('uses none that are for another server', () => {
    assert.deepEqual(readCredentials({ username: 'u', password: 'p', serverAddress: 'other' }, 'r'), {
      kind: 'anonymous',
    })
  })

  test('refuses what cannot be right, without repeating it', () => {
    for (const auth of [{ auth: 'MARKER' }, { registryToken: 'MARKER\r\nX: y' }]) {
      assert.throws(
        () => readCredentials(auth, 'r'),
        (error) => isKind(error, 'invalid-argument') && !error.message.includes('MARKER'),
      )
    }
  })

  test('keys tell credentials apart and reveal nothing', () => {
    const one = credentialsKey({ kind: 'basic', username: 'u', password: 'p' })
    assert.notEqual(one, credentialsKey({ kind: 'basic', username: 'u', password: 'q' }))
    assert.notEqual(one, credentialsKey({ kind: 'basic', username: 'up', password: '' }))
    assert.equal(basicHeader('u', 'p'), 'Basic dTpw')
  })
})

suite('retries', () => {
  test('Retry-After in seconds and as a date', () => {
    const now = Date.parse('2030-01-01T00:00:00Z')
    assert.equal(readRetryAfter('7', now), 7000)
    assert.equal(readRetryAfter('Tue, 01 Jan 2030 00:00:09 GMT', now), 9000)
    for (const nonsense of [undefined, '', '-5', 'soon', 'Tue, 01 Jan 2020 00:00:09 GMT']) {
      assert.equal(readRetryAfter(nonsense, now), undefined)
    }
  })

  test('pauses grow, have jitter, and an absurd Retry-After is cut', () => {
    assert.equal(
      pauseMs(defaultTiming, 1, 0, () => 0),
      250,
    )
    assert.equal(
      pauseMs(defaultTiming, 1, 0, () => 1),
      500,
    )
    assert.equal(
      pauseMs(defaultTiming, 3, 0, () => 1),
      2000,
    )
    assert.equal(
      pauseMs(defaultTiming, 30, 0, () => 1),
      defaultTiming.longestPauseMs,
    )
    assert.equal(
      pauseMs(defaultTiming, 1, 10 * 365 * 86_400_000, () => 1),
      defaultTiming.longestRetryAfterMs,
    )
  })
})

suite('registry errors', () => {
  test('hide queries and users', () => {
    assert.equal(printable(new URL('https://u:p@h.example/a/b?sig=SECRET#x')), 'https://h.example/a/b')
  })

  test('keep codes and nothing else of an error document', () => {
    const body = { errors: [{ code: 'MANIFEST_UNKNOWN', message: 'SECRET' }, { code: 'not a code' }, null, 7] }
    assert.deepEqual(errorCodes(Buffer.from(JSON.stringify(body))), ['MANIFEST_UNKNOWN'])
    for (const text of ['', '<html>', '{"errors":7}', '[]']) assert.deepEqual(errorCodes(Buffer.from(text)), [])
  })

  test('have the kinds that callers act on', () => {
    assert.equal(refusal(401, [], 'x').kind, 'permission-denied')
    assert.equal(refusal(403, [], 'x').kind, 'permission-denied')
    assert.equal(refusal(404, [], 'x').kind, 'not-found')
    assert.match(refusal(418, [], 'x').message, /^RegistryUnavailable: /)
  })
})
