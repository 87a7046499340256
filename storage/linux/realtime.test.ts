import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { monotonicMs, Realtime, realtimeNs } from './realtime.ts'

test('the clock on the wall is the one that Node shows, in nanoseconds', () => {
  const before = BigInt(Date.now()) * 1_000_000n
  const now = realtimeNs()
  assert.ok(now >= before && now < before + 60_000_000_000n)
  const clock = new Realtime()
  clock.read()
  assert.ok(clock.nanoseconds >= 0 && clock.nanoseconds < 1e9)
})

test('the shared clock counts milliseconds', async () => {
  const before = monotonicMs()
  await delay(30)
  const step = monotonicMs() - before
  assert.ok(step >= 29 && step < 60_000)
})
