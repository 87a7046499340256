/** Images whose daemon is killed before the first and the last change of each name, and for each of those at a place of the recovery. */
import assert from 'node:assert/strict'
import { after, it } from 'node:test'
import { changesOf, crashTrial, namedPoints } from '#storage/testing/crash-trial.ts'
import { imageStory } from './testing/crash-trials.ts'

const story = await imageStory({ after })

it('images whose daemon is killed anywhere, and again in the recovery, are whole or not there, and nothing is left', async (t) => {
  const changes = await changesOf(story)
  const points = namedPoints(changes)
  let deaths = 0
  let trials = 0
  for (const places of points.values())
    for (const place of places) {
      const { died, diedAgain, wrong } = await crashTrial(story, place, `${1 + (trials++ % 40)}`)
      assert.deepEqual(wrong, [], `killed before "${place}"`)
      deaths += Number(died) + Number(diedAgain)
    }
  t.diagnostic(`${changes.length} changes, ${points.size} of different names, killed ${deaths} times`)
})
