/** A storage after power cuts at every moment, in the states that a disk may then be in (P1, P2, P3). power-cut.long.ts tries all of them. */
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { recordStory } from './testing/power-cut/record-story.ts'
import { judgeStorage, tellOfTwoAtOnce, tellStory } from './testing/power-cut/storage-story.ts'
import { forgetting, tryStates } from './testing/power-cut/try-states.ts'

const { recording, result: looks } = await recordStory({ after }, tellStory)

describe('a storage whose power is cut', () => {
  it('has all that it said it has, and nothing by half', async (t) => {
    const tried = await tryStates(recording, { perCut: 8, seed: 1 }, (root, told) => judgeStorage(root, told, looks))
    t.diagnostic(`${recording.log.length} changes, ${tried.states} states, ${tried.distinct} of them different`)
    assert.deepEqual(tried.illegal, [])
  })

  // What finds nothing proves nothing: without any of these the states above are illegal ones.
  for (const [what, pattern] of [
    ['the sync of a layer before its name', /^sync all$/],
    ['the sync of a blob before its name', /^sync \/storage\/partial-blobs\//],
    ['the sync of the names of blobs', /^sync \/storage\/blobs$/],
    ['the sync of the names of layers', /^sync \/storage\/layers$/],
    ['the sync of the directories', /^sync (top|\/storage)$/],
  ] as const)
    it(`would be caught without ${what}`, async (t) => {
      const forgetful = forgetting(recording, (text) => pattern.test(text))
      const judge = (root: string, told: ReadonlySet<string>) => judgeStorage(root, told, looks)
      const { illegal } = await tryStates(forgetful, { perCut: 8, seed: 1 }, judge, 1)
      assert.notDeepEqual(illegal, [])
      t.diagnostic(illegal[0] ?? '')
    })

  it('has both of two layers of which one was ready while the sync for the other ran', async (t) => {
    const { recording: two, result: both } = await recordStory(t, tellOfTwoAtOnce)
    const tried = await tryStates(two, { perCut: 8, seed: 1 }, (root, told) => judgeStorage(root, told, both))
    t.diagnostic(`${two.log.length} changes, ${tried.states} states, ${tried.distinct} of them different`)
    assert.deepEqual(tried.illegal, [])
  })

  it('would be caught without the sync between the renaming and the deleting of a layer', async () => {
    const removal = recording.log.findIndex((change) => change.is === 'told' && change.what.startsWith('drops sha256'))
    const forgetful = forgetting(recording, (text, index) => index > removal && /(layers|trash)$/.test(text))
    const judge = (root: string, told: ReadonlySet<string>) => judgeStorage(root, told, looks)
    const { illegal } = await tryStates(forgetful, { perCut: 30, seed: 1 }, judge, 1)
    assert.match(illegal[0] ?? '', /is not whole/)
  })
})
