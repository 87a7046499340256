import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { parseChallenges } from './auth-challenge.ts'

const read = (header: string): [string, Record<string, string>][] =>
  parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)])

suite('WWW-Authenticate', () => {
  test('reads a token challenge', () => {
    assert.deepEqual(
      read('Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push"'),
      [['bearer', { realm: 'https://auth.example/token', service: 'r.example', scope: 'repository:a/b:pull,push' }]],
    )
  })

  test('reads several challenges in one header', () => {
    assert.deepEqual(read('Basic realm="x", Bearer realm=y , scope="z",Negotiate, Negotiate dG9rZW4=='), [
      ['basic', { realm: 'x' }],
      ['bearer', { realm: 'y', scope: 'z' }],
      ['negotiate', {}],
      ['negotiate', {}],
    ])
  })

  test('undoes quoting', () => {
    assert.deepEqual(read('Basic realm="a \\"b\\", Bearer realm=evil\\\\"'), [
      ['basic', { realm: 'a "b", Bearer realm=evil\\' }],
    ])
  })

  const malformed = [
    'Bearer realm="unfinished',
    'Bearer realm="a" scope="b"',
    'Bearer realm="a",realm="b"',
    '"Bearer" realm=a',
    'Bearer realm="a\r\nX: y"',
    `Bearer realm="${'a'.repeat(65_536)}"`,
    'Bearer =a',
  ]
  for (const header of malformed) {
    test(`gives nothing for ${JSON.stringify(header.slice(0, 40))}`, () =>
      assert.deepEqual(parseChallenges(header), []))
  }

  test('gives nothing without a header', () => assert.deepEqual(parseChallenges(undefined), []))

  test('ends for any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'aB ="\\,/') }), (text) => Array.isArray(parseChallenges(text))),
    )
  })
})
