/** A storage killed before each change that it makes, and for each of those at a place of the recovery. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { changesOf, crashTrial, storageStory } from './testing/crash-trial.ts'

it('a storage killed before any change, and again in the recovery, leaves nothing and goes on', async (t) => {
  const changes = (await changesOf(storageStory)).length
  let deaths = 0
  for (let point = 1; point <= changes; point++) {
    const { died, diedAgain, wrong } = await crashTrial(storageStory, `${point}`, `${1 + (point % 30)}`)
    assert.deepEqual(wrong, [], `killed before change ${point}`)
    deaths += Number(died) + Number(diedAgain)
  }
  t.diagnostic(`${changes} changes, killed ${deaths} times`)
})

for (const job of ['unpack', 'empty', 'describe'])
  for (const ms of [0, 1, 5, 20])
    it(`a storage killed ${ms} ms into the job "${job}" leaves nothing and goes on`, async () =>
      assert.deepEqual((await crashTrial(storageStory, `${job} ${ms}`)).wrong, []))
