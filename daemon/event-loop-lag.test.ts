import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { EventLoopLag } from './event-loop-lag.ts'

const standStill = (ms: number): void => {
  const until = performance.now() + ms
  while (performance.now() < until);
}

const turning = async (lag: EventLoopLag, turns: number): Promise<void> => {
  const from = lag.read().turns
  while (lag.read().turns < from + turns) await sleep(2)
}

describe('the lag of the event loop', () => {
  it('is what a standstill took, also one in the turn in which the work ended', async () => {
    const lag = new EventLoopLag()
    for (const isLast of [false, true]) {
      const work = lag.measure()
      await turning(lag, 3)
      standStill(120)
      if (!isLast) await turning(lag, 3)
      work[Symbol.dispose]()
      await sleep(100)
      assert.ok(lag.read().maxMs >= 115, `the last was ${isLast}: ${JSON.stringify(lag.read())}`)
      assert.ok(lag.read().p50Ms < lag.read().maxMs)
    }
  })

  it('begins anew with work that nothing else overlaps, and keeps the worst', async () => {
    const lag = new EventLoopLag()
    const [one, other] = [lag.measure(), lag.measure()]
    await turning(lag, 3)
    standStill(400)
    await turning(lag, 3)
    one[Symbol.dispose]()
    await sleep(60)
    assert.ok(lag.read().maxMs >= 395)
    other[Symbol.dispose]()
    using _next = lag.measure()
    await turning(lag, 3)
    assert.ok(lag.read().worstMs >= 395)
    assert.ok(lag.read().turns < 1000)
  })

  it('is not measured when there is no work', async () => {
    const lag = new EventLoopLag()
    await sleep(50)
    assert.equal(lag.read().turns, 0)
    lag.measure()[Symbol.dispose]()
    await sleep(200)
    const { turns } = lag.read()
    standStill(100)
    await sleep(100)
    assert.equal(lag.read().turns, turns)
  })
})
