import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as tick } from 'node:timers/promises'
import { Gate } from './gate.ts'

test('one who wants to be alone waits for all, keeps nobody waiting before, and everybody while alone', async () => {
  const gate = new Gate()
  const events: string[] = []
  const first = await gate.enter()
  const work = Promise.withResolvers<void>()
  const alone = gate.alone(async () => {
    events.push('alone')
    await work.promise
    events.push('done')
  }, new AbortController().signal)
  const second = await gate.enter()
  first[Symbol.dispose]()
  await tick()
  assert.equal(events.join(), '')
  second[Symbol.dispose]()
  await tick()
  assert.equal(events.join(), 'alone')
  const third = gate.enter().then((entry) => {
    events.push('third')
    return entry
  })
  await tick()
  assert.equal(events.join(), 'alone')
  work.resolve()
  await alone
  using _ = await third
  assert.equal(events.join(), 'alone,done,third')
})

test('waiting to be alone can be given up', async () => {
  const gate = new Gate()
  using _ = await gate.enter()
  const abort = new AbortController()
  const alone = gate.alone(async () => assert.fail('not alone'), abort.signal)
  abort.abort(new Error('enough'))
  await assert.rejects(alone, /enough/)
  using again = await gate.enter()
  assert.ok(again)
})
