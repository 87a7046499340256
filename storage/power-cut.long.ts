/** The storage after power cuts, in every state that leaves out, or leaves, one change, and as many at random. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { recordStory } from './testing/power-cut/record-story.ts'
import { judgeStorage, tellStory } from './testing/power-cut/storage-story.ts'
import { tryStates } from './testing/power-cut/try-states.ts'

for (const seed of [1, 2, 3, 4])
  it(`a storage whose power is cut, by chance ${seed}`, async (t) => {
    const { recording, result: looks } = await recordStory(t, tellStory)
    const tried = await tryStates(recording, { perCut: 1000, seed }, (root, told) => judgeStorage(root, told, looks))
    t.diagnostic(`${recording.log.length} changes, ${tried.states} states, ${tried.distinct} of them different`)
    assert.deepEqual(tried.illegal, [])
  })
