import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { isKind } from '#proto/errors.ts'
import { parseStrictJson } from './strict-json.ts'

const parse = (text: string): unknown => parseStrictJson(Buffer.from(text), 'Text')

suite('strict JSON', () => {
  test('reads what JSON.parse reads', () => {
    fc.assert(fc.property(fc.json({ maxDepth: 5 }), (text) => assert.deepEqual(parse(text), JSON.parse(text))))
  })

  test('takes the same name in different objects, and strings that look like names', () => {
    assert.deepEqual(parse('[{"a":"a"},{"a":{"a":"\\"a\\":1"}}]'), [{ a: 'a' }, { a: { a: '"a":1' } }])
  })

  test('reads a string of several megabytes', () => {
    assert.equal(String(parse(`"${'x'.repeat(4_000_000)}"`)).length, 4_000_000)
  })

  const refused: Record<string, Buffer> = {
    'a name twice': Buffer.from('{"a":1,"a":2}'),
    'a name twice with space': Buffer.from('{"a" :1, "b":{}, "a"\n:2}'),
    'a name twice in other spelling': Buffer.from('{"a":1,"\\u0061":2}'),
    'a name twice deep inside': Buffer.from('[[{"x":[{"b":1,"b":1}]}]]'),
    'a byte order mark': Buffer.from('\ufeff{}'),
    'bytes that are no UTF-8': Buffer.from([0x22, 0xff, 0x22]),
    'trailing data': Buffer.from('{} {}'),
    NaN: Buffer.from('{"a":NaN}'),
    nothing: Buffer.alloc(0),
    'an unfinished string': Buffer.from('{"a'),
    'an unfinished escape': Buffer.from('{"a\\'),
    'more depth than anybody needs': Buffer.from(`${'['.repeat(65)}${']'.repeat(65)}`),
    'endless depth': Buffer.from('['.repeat(1_000_000)),
  }
  for (const [name, bytes] of Object.entries(refused)) {
    test(`refuses ${name}`, () => {
      assert.throws(
        () => parseStrictJson(bytes, 'Text'),
        (error) => isKind(error, 'failed-precondition'),
      )
    })
  }
})
