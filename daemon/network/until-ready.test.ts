import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isKind, RuntimeError } from '#proto/errors.ts'
import { untilReady } from './until-ready.ts'
import type { NetworkReady } from './watch-config.ts'

const notYet: NetworkReady = { ok: false, reason: 'nothing there' }

test('who comes early gets the network that comes in time', async () => {
  let asked = 0
  await untilReady(() => (++asked < 4 ? notYet : { ok: true }), 60_000)
  assert.equal(asked, 4)
})

test('who waits in vain is told why', async () => {
  await assert.rejects(
    untilReady(() => notYet, 50),
    (error) => isKind(error, 'failed-precondition') && error.message.includes('nothing there'),
  )
  await assert.rejects(untilReady(() => notYet, 0))
})

test('a daemon that stops ends the waiting', async () => {
  const stop = new AbortController()
  const waiting = untilReady(() => notYet, 60_000, stop.signal)
  const reason = new RuntimeError('unavailable', 'stopping')
  stop.abort(reason)
  await assert.rejects(waiting, reason)
})
