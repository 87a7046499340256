/** Masking by words is masking by bytes, wherever the bytes lie. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { mask, unmask } from './buffer-util.ts'

const payload = fc.record({
  bytes: fc.uint8Array({ maxLength: 70 }),
  key: fc.uint8Array({ minLength: 4, maxLength: 4 }),
  shift: fc.nat(9),
})
const byBytes = (bytes: Uint8Array, key: Uint8Array) => bytes.map((byte, index) => byte ^ (key[index % 4] ?? 0))

/** The bytes at an odd place, with ones around them that must stay. */
function placed(bytes: Uint8Array, shift: number) {
  const all = new Uint8Array(shift + bytes.length + 5).fill(0xaa)
  all.set(bytes, shift)
  return { all, inner: all.subarray(shift, shift + bytes.length) }
}

const isUntouchedAround = (all: Uint8Array, shift: number, length: number) =>
  [...all.subarray(0, shift), ...all.subarray(shift + length)].every((byte) => byte === 0xaa)

describe('masking', () => {
  it('in place changes exactly the payload', async () => {
    await fc.assert(
      fc.property(payload, ({ bytes, key, shift }) => {
        const { all, inner } = placed(bytes, shift)
        unmask(inner, key)
        assert.deepEqual(inner, byBytes(bytes, key))
        assert.ok(isUntouchedAround(all, shift, bytes.length))
      }),
    )
  })

  it('into another buffer leaves the source and what is around', async () => {
    await fc.assert(
      fc.property(payload, ({ bytes, key, shift }) => {
        const source = bytes.slice()
        const { all } = placed(new Uint8Array(bytes.length), shift)
        mask(source, key, all, shift, bytes.length)
        assert.deepEqual(source, bytes)
        assert.deepEqual(all.slice(shift, shift + bytes.length), byBytes(bytes, key))
        assert.ok(isUntouchedAround(all, shift, bytes.length))
      }),
    )
  })
})
