import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseRequest } from './parse-request.ts'

const parse = (value: unknown) => parseRequest(Buffer.from(JSON.stringify(value)))

test('known requests are understood, whatever else is in them', () => {
  assert.deepEqual(parse({ id: 1, request: 'create', later: true }), { id: 1, request: { id: 1, request: 'create' } })
  assert.deepEqual(parse({ id: 2, request: 'resize', width: 80, height: 0 }).request, {
    id: 2,
    request: 'resize',
    width: 80,
    height: 0,
  })
})

test('requests of a newer daemon are refused by name', () => {
  const { id, failure } = parse({ id: 3, request: 'checkpoint' })
  assert.deepEqual([id, failure?.kind], [3, 'unimplemented'])
  assert.match(failure?.message ?? '', /checkpoint/)
})

test('sizes of terminals are checked', () => {
  for (const width of [-1, 65_536, 1.5, '80', null, undefined]) {
    assert.equal(parse({ id: 4, request: 'resize', width, height: 1 }).failure?.kind, 'invalid-argument')
  }
})

test('what has no id is not a request', () => {
  for (const value of [{}, { id: '1' }, { id: 1.5 }, null, 7, 'create', []])
    assert.throws(() => parse(value), TypeError)
  assert.throws(() => parseRequest(Buffer.from('{')), TypeError)
})
