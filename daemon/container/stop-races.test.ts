import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { mintContainerId } from '../ids.ts'
import { StopRaces } from './stop-races.ts'

const id = mintContainerId()

/** Timers under our hand; the monotonic clock follows them. */
function clock(t: { after(fn: () => void): void }) {
  let now = 0
  mock.timers.enable({ apis: ['setTimeout'] })
  mock.method(performance, 'now', () => now)
  t.after(() => {
    mock.timers.reset()
    mock.restoreAll()
  })
  return (ms: number) => {
    now += ms
    mock.timers.tick(ms)
  }
}

test('killWithin() kills when the grace period is over, and again until it is over', (t) => {
  const pass = clock(t)
  const races = new StopRaces()
  let kills = 0
  assert.equal(
    races.killWithin(id, 5_000, () => kills++),
    true,
  )
  pass(4_999)
  assert.equal(kills, 0)
  pass(1)
  assert.equal(kills, 1)
  pass(1_000)
  assert.equal(kills, 2)
  races.over(id)
  pass(60_000)
  assert.equal(kills, 2)
})

test('a later caller can shorten the grace period, and not lengthen it', (t) => {
  const pass = clock(t)
  const races = new StopRaces()
  let kills = 0
  races.killWithin(id, 30_000, () => kills++)
  assert.equal(
    races.killWithin(id, 60_000, () => kills++),
    false,
  )
  assert.equal(
    races.killWithin(id, 1_000, () => kills++),
    false,
  )
  pass(1_000)
  assert.equal(kills, 1)
  races.over(id)
})

test('a grace period beyond what timers hold does not fire at once', (t) => {
  const pass = clock(t)
  const races = new StopRaces()
  let kills = 0
  races.killWithin(id, Number(2n ** 63n) * 1000, () => kills++)
  pass(1_000_000)
  assert.equal(kills, 0)
  races.over(id)
})
