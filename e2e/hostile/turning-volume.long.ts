/** Row B7 as often as it takes for a race to be lost: `npm run test:long`; CRICKET_ROUNDS is the number of rounds (10000). */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { writtenApart } from '../apart.ts'
import { makeCanary } from '../canary.ts'
import { useWorld } from '../harness.ts'
import { startTurning } from './turning-volume.ts'

const ROUNDS = Number(process.env.CRICKET_ROUNDS ?? 10_000)

describe('a volume that another container keeps turning round', () => {
  const world = useWorld({ isApart: true })

  it(`leads nowhere in ${ROUNDS} rounds`, async (t) => {
    const canary = makeCanary(world.site.path('canary'))
    const turning = await startTurning(world, canary)
    const seen: Record<string, number> = {}
    for (let round = 1; round <= ROUNDS; round++) {
      const outcome = await turning.tryMount()
      seen[outcome] = (seen[outcome] ?? 0) + 1
      if (round % 100 === 0) canary.assertUnharmed()
    }
    t.diagnostic(JSON.stringify(seen))
    await turning.end()
    canary.assertUnharmed()
    assert.deepEqual(writtenApart(world.site, world.runtime.pid), [])
    assert.deepEqual(
      Object.keys(seen).filter((code) => !['OK', 'FAILED_PRECONDITION'].includes(code)),
      [],
    )
    await world.assertNothingLeft()
  })
})
