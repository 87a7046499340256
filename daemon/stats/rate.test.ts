import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rate } from './rate.ts'

const SECOND = 1_000
const CORE = 1_000_000_000
const look = (atMs: number, usageNs: number) => ({ atMs, usageNs })

test('a young container has a rate from the first look: what it has used since it is there', () => {
  assert.equal(new Rate().after(look(4 * SECOND, CORE), 2 * SECOND), CORE / 2)
})

test('an old one, and one just born, has to be looked at again', () => {
  const old = new Rate()
  assert.equal(old.after(look(1_000 * SECOND, 50 * CORE), 0), undefined)
  assert.equal(old.after(look(1_000 * SECOND + 250, 50 * CORE + CORE / 8), 0), CORE / 2)
  const justBorn = new Rate()
  assert.equal(justBorn.after(look(SECOND, 10), SECOND - 1), undefined)
  assert.equal(justBorn.after(look(SECOND + 250, 10)), 0)
})

test('later looks tell of the time between them, unless that is too short to tell', () => {
  const rate = new Rate()
  rate.after(look(0, 0))
  assert.equal(rate.after(look(10 * SECOND, 5 * CORE)), CORE / 2)
  assert.equal(rate.after(look(10.5 * SECOND, 6 * CORE)), CORE / 2)
  assert.equal(rate.after(look(20 * SECOND, 25 * CORE)), 2 * CORE)
})

test('a counter that went back is another one, and what was long ago tells nothing of now', () => {
  const rate = new Rate()
  rate.after(look(0, 5 * CORE))
  assert.equal(rate.after(look(10 * SECOND, CORE)), undefined)
  assert.equal(rate.after(look(11 * SECOND, 2 * CORE)), CORE)
  assert.equal(rate.after(look(3_600 * SECOND, 3 * CORE)), undefined)
})
