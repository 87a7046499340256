/** A storage whose process is killed (K5, K6). A sample of the places; crashes.long.ts takes all of them. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { changesOf, crashTrial, storageStory } from './testing/crash-trial.ts'

const SAMPLE = 10

describe('a storage whose process is killed', () => {
  it('before a change of the disk, and again in the recovery, leaves nothing and goes on', async (t) => {
    const changes = (await changesOf(storageStory)).length
    let deaths = 0
    for (let n = 0; n < SAMPLE; n++) {
      const point = 1 + Math.floor(((n + 0.5) * changes) / SAMPLE)
      const { died, diedAgain, wrong } = await crashTrial(
        storageStory,
        `${point}`,
        n % 2 === 0 ? `${1 + 2 * n}` : undefined,
      )
      assert.ok(died, `the story has a change ${point}`)
      assert.deepEqual(wrong, [], `killed before change ${point}`)
      deaths += 1 + Number(diedAgain)
    }
    t.diagnostic(`${changes} changes, killed ${deaths} times`)
  })

  for (const job of ['unpack', 'empty', 'describe'])
    it(`in the middle of the job "${job}" leaves nothing and goes on`, async () => {
      const { died, wrong } = await crashTrial(storageStory, `${job} 1`)
      assert.deepEqual([died, wrong], [true, []])
    })
})
