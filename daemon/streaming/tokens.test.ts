import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Tokens } from './tokens.ts'

const request = { kind: 'port-forward', sandboxId: 's' } as const

test('a token is 128 random bits, good for one use and for what it was made', () => {
  const tokens = new Tokens()
  const all = Array.from({ length: 100 }, () => tokens.issue(request))
  assert.equal(new Set(all).size, 100)
  for (const token of all) assert.match(token, /^[0-9a-f]{32}$/)
  const [first = '', second = ''] = all
  assert.equal(tokens.redeem(first, 'port-forward'), request)
  assert.equal(tokens.redeem(first, 'port-forward'), undefined)
  // Whoever tries it elsewhere has spent it.
  assert.equal(tokens.redeem(second, 'exec'), undefined)
  assert.equal(tokens.redeem(second, 'port-forward'), undefined)
})

test('a token lives for a minute', () => {
  let now = 0
  const tokens = new Tokens(() => now)
  const [early, late] = [tokens.issue(request), tokens.issue(request)]
  now = 59_999
  assert.equal(tokens.redeem(early, 'port-forward'), request)
  now = 60_000
  assert.equal(tokens.redeem(late, 'port-forward'), undefined)
})

test('a thousand wait for their clients, the next one is refused until one is used or too old', () => {
  let now = 0
  const tokens = new Tokens(() => now)
  const all = Array.from({ length: 1_000 }, () => tokens.issue(request))
  assert.throws(() => tokens.issue(request), { kind: 'resource-exhausted', message: /1000 wait/ })
  tokens.redeem(all[500] ?? '', 'port-forward')
  tokens.issue(request)
  assert.throws(() => tokens.issue(request), { kind: 'resource-exhausted' })
  now = 60_000
  tokens.issue(request)
})

test('a million guesses find nothing', () => {
  const tokens = new Tokens()
  for (let each = 0; each < 1_000; each++) tokens.issue(request)
  for (let guess = 0; guess < 1_000_000; guess++)
    if (tokens.redeem(guess.toString(16).padStart(32, '0'), 'port-forward')) assert.fail('found')
})
