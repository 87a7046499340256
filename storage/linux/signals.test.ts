import assert from 'node:assert/strict'
import { constants } from 'node:os'
import { test } from 'node:test'
import { signalName, signalNumber } from './signals.ts'

test('every signal Node knows has the same number here', () => {
  for (const [name, number] of Object.entries(constants.signals)) assert.equal(signalNumber(name), number, name)
})

test('spellings', () => {
  for (const text of ['SIGTERM', 'TERM', 'term', 'SigTerm', '15', ' TERM ']) assert.equal(signalNumber(text), 15)
  assert.equal(signalNumber(9), 9)
  assert.equal(signalNumber('SIGRTMIN'), 34)
  assert.equal(signalNumber('SIGRTMIN+3'), 37)
  assert.equal(signalNumber('RTMAX-1'), 63)
})

test('what is no signal', () => {
  for (const value of [
    '',
    '0',
    0,
    65,
    '65',
    -1,
    1.5,
    'SIG',
    'SIG0',
    'FOO',
    'SIGRTMIN+31',
    'SIGRTMAX-31',
    'constructor',
    '1e1',
    'SIGTERM\n9',
  ]) {
    assert.equal(signalNumber(value), undefined, String(value))
  }
})

test('names', () => {
  assert.equal(signalName(9), 'SIGKILL')
  assert.equal(signalName(6), 'SIGABRT')
  assert.equal(signalName(34), 'SIGRTMIN')
  assert.equal(signalName(37), 'SIGRTMIN+3')
  assert.equal(signalName(64), 'SIGRTMAX')
  assert.equal(signalName(32), 'SIG32')
  for (let number = 1; number <= 31; number++) assert.equal(signalNumber(signalName(number)), number)
})
