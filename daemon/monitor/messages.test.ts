import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeMessage, frameHeaderBytes } from '#proto/conmon.ts'
import { decode, Event, Reply, Welcome } from './messages.ts'

const json = (value: object) => Buffer.from(JSON.stringify(value))

test('events of a later monitor are unknown, not errors; a damaged record is one', () => {
  assert.deepEqual(decode(Event, json({ event: 'brewed', coffee: 1 }), 'event'), { event: 'unknown' })
  assert.deepEqual(decode(Event, json({ event: 'dropped', message: 'why' }), 'event'), {
    event: 'dropped',
    message: 'why',
  })
  assert.throws(() => decode(Event, json({ event: 'exited', record: { code: 0 } }), 'event'), { kind: 'internal' })
  assert.throws(() => decode(Event, Buffer.from('nonsense'), 'event'), { kind: 'internal' })
})

test('a monitor of the first days is understood: no start time', () => {
  const status = {
    state: 'alive',
    init: { pid: 7, startTime: '12' },
    started: true,
    bytesLogged: 0,
    bytesLost: 0,
  } as const
  const welcome = encodeMessage('welcome', { protocol: 1, pid: 1, status }).subarray(frameHeaderBytes)
  assert.deepEqual(decode(Welcome, welcome, 'welcome').status, { ...status, init: { pid: 7, startTime: 12n } })
})

test('a kind of failure that is not known is an internal one', () => {
  const reply = decode(Reply, json({ id: 1, reply: 'failed', failure: { kind: 'cosmic', message: 'm' } }), 'reply')
  assert.deepEqual(reply, { id: 1, reply: 'failed', failure: { kind: 'internal', message: 'm' } })
})
