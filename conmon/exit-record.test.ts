import assert from 'node:assert/strict'
import { test } from 'node:test'
import { exitFields } from './exit-record.ts'

test('an end is its code, 128 and the signal, or unknown; what nobody saw is never a success', () => {
  assert.deepEqual(exitFields({ pid: 1, how: 'exited', code: 0 }), { code: 0, signal: 0 })
  assert.deepEqual(exitFields({ pid: 1, how: 'exited', code: 7 }), { code: 7, signal: 0 })
  assert.deepEqual(exitFields({ pid: 1, how: 'signaled', signal: 9, coreDumped: false }), { code: 137, signal: 9 })
  assert.deepEqual(exitFields({ how: 'unknown', why: 'nobody saw it' }), {
    code: 255,
    signal: 0,
    unknown: 'nobody saw it',
  })
})
