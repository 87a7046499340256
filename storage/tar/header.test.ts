import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { isKind } from '#proto/errors.ts'
import { decodeHeader } from './header.ts'
import { base256, type Forged, headerBlock } from './testing/tarsmith.ts'

const refused = (error: unknown): boolean => isKind(error, 'failed-precondition')

const name = fc.array(fc.integer({ min: 1, max: 255 }), { minLength: 1, maxLength: 100 })
const text = name.map((bytes) => String.fromCharCode(...bytes))

describe('decodeHeader()', () => {
  it('reads back what was written, octal or base-256, in every dialect', () => {
    fc.assert(
      fc.property(
        fc.record({
          name: text,
          linkName: text,
          mode: fc.integer({ min: 0, max: 0o7777 }),
          uid: fc.integer({ min: 0, max: 2 ** 32 - 2 }),
          gid: fc.integer({ min: 0, max: 2 ** 32 - 2 }),
          size: fc.maxSafeNat(),
          mtime: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
          type: fc.constantFrom('0', '1', '2', '3', '4', '5', '6', 'x'),
          magic: fc.constantFrom('ustar', 'gnu', 'star', 'v7') as fc.Arbitrary<NonNullable<Forged['magic']>>,
          binary: fc.boolean(),
        }),
        (entry) => {
          const { magic, binary, ...expected } = entry
          const decoded = decodeHeader(headerBlock({ ...entry, size: entry.size }))
          assert.deepEqual(decoded, { ...expected, major: 0, minor: 0 })
        },
      ),
    )
  })

  it('never fails in any way but a refusal', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 512, maxLength: 512 }), (bytes) => {
        const block = Buffer.from(bytes)
        block.fill(0x20, 148, 156)
        const sum = block.reduce((total, byte) => total + byte, 0)
        block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
        try {
          decodeHeader(block)
        } catch (error) {
          assert.ok(refused(error), String(error))
        }
      }),
      { numRuns: 500 },
    )
  })

  it('refuses a wrong checksum and accepts the signed sum of old writers', () => {
    const spoiled = headerBlock({ name: 'a', spoil: (block) => void block.write('b') })
    assert.throws(() => decodeHeader(spoiled), refused)
    const signed = headerBlock({ name: '\xe9' })
    const sum = Number.parseInt(signed.toString('latin1', 148, 154), 8) - 256
    signed.write(sum.toString(8).padStart(6, '0'), 148, 'latin1')
    assert.equal(decodeHeader(signed)?.name, '\xe9')
  })

  it('refuses numbers that are none', () => {
    const garbage = headerBlock({ name: 'a', patch: (block) => void block.write('12x4', 124, 'latin1') })
    assert.throws(() => decodeHeader(garbage), refused)
    const huge = headerBlock({ name: 'a', patch: (block) => void base256(2n ** 63n, 12).copy(block, 124) })
    assert.throws(() => decodeHeader(huge), refused)
  })

  it('joins the prefix of ustar and takes no prefix from GNU headers', () => {
    assert.equal(decodeHeader(headerBlock({ name: 'b', prefix: 'a' }))?.name, 'a/b')
    assert.equal(decodeHeader(headerBlock({ name: 'b', prefix: 'a', magic: 'gnu' }))?.name, 'b')
  })

  it('takes a block of zeros for the end', () => {
    assert.equal(decodeHeader(Buffer.alloc(512)), undefined)
  })
})
