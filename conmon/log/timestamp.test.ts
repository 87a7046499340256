import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Timestamp } from './timestamp.ts'

test('always nine digits, always UTC', () => {
  const timestamp = new Timestamp()
  const text = (seconds: number, nanoseconds: number) => timestamp.of(seconds, nanoseconds).toString()
  assert.equal(text(0, 0), '1970-01-01T00:00:00.000000000Z')
  assert.equal(text(1_475_712_009, 5), '2016-10-06T00:00:09.000000005Z')
  assert.equal(text(1_475_712_009, 999_999_999), '2016-10-06T00:00:09.999999999Z')
  assert.equal(text(4_102_444_800, 120_000_000), '2100-01-01T00:00:00.120000000Z')
})
