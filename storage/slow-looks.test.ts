import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SlowLooks } from './slow-looks.ts'

test('nobody calls: nothing is done; many call: each look is made once in its time', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const looks = new SlowLooks()
  const made = { quick: 0, slow: 0 }
  looks.every(5_000)(() => void made.quick++)
  looks.every(12_000)(() => void made.slow++)
  t.mock.timers.tick(60_000)
  assert.deepEqual([made, looks.due], [{ quick: 0, slow: 0 }, 0])
  for (let second = 0; second < 60; second++) {
    looks.called()
    t.mock.timers.tick(1_000)
  }
  assert.deepEqual(made, { quick: 12, slow: 5 })
  looks.called()
  assert.equal(looks.due, 2)
  t.mock.timers.tick(3_600_000)
  assert.deepEqual([made, looks.due], [{ quick: 13, slow: 6 }, 0])
})

test('a look that wants another gets it, and none after it was ended', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const looks = new SlowLooks()
  let made = 0
  const end = looks.every(1_000)(() => ++made < 3)
  looks.called()
  t.mock.timers.tick(1_000)
  t.mock.timers.tick(1_000)
  assert.deepEqual([made, looks.due], [2, 1])
  end()
  looks.called()
  t.mock.timers.tick(60_000)
  assert.deepEqual([made, looks.due], [2, 0])
})
