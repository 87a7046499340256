/** Row H13: a clock that jumps. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { orderedTimes } from './ordered-times.ts'

const times = (createdAt: bigint, startedAt: bigint, finishedAt: bigint) => ({ createdAt, startedAt, finishedAt })

describe('orderedTimes()', () => {
  it('leaves times in order alone, and what has not happened yet', () => {
    for (const good of [times(1n, 2n, 3n), times(1n, 1n, 1n), times(5n, 0n, 0n), times(5n, 6n, 0n)])
      assert.deepEqual(orderedTimes(good), good)
  })

  it('moves what a clock that was set back has put too early', () => {
    assert.deepEqual(orderedTimes(times(10n, 2n, 3n)), times(10n, 10n, 10n))
    assert.deepEqual(orderedTimes(times(10n, 12n, 3n)), times(10n, 12n, 12n))
    assert.deepEqual(orderedTimes(times(10n, 2n, 0n)), times(10n, 10n, 0n))
  })

  it('knows containers that ended without having been started', () => {
    assert.deepEqual(orderedTimes(times(10n, 0n, 4n)), times(10n, 0n, 10n))
  })
})
