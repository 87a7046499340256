/** A pull, a tag that moves, signatures that change and a removal, killed at places that are called by name (K5, K6). A sample; crashes.long.ts takes all. */
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { changesOf, crashTrial, namedPoints } from '#storage/testing/crash-trial.ts'
import { imageStory } from './testing/crash-trials.ts'

const story = await imageStory({ after })

/** What each of them is about; the place must be there, or the story no longer tells what it did. */
const SAMPLE: readonly RegExp[] = [
  /^write storage\/partial-blobs\//,
  /^rename storage\/partial-blobs\/\S+ storage\/blobs\//,
  /^rename storage\/temp\/layer-\S+ storage\/layers\//,
  /^rename storage\/temp\/fix-up-\S+ storage\/fix-ups\//,
  /^rename images\/signatures\//,
  /^rename images\/\.\S+ images\/sha256/,
  /^unlink images\/sha256/,
  /^rename storage\/layers\/\S+ storage\/trash\//,
]

describe('images whose daemon is killed', () => {
  it('are whole or not there, their tag means the old or the new, and nothing is left', async (t) => {
    const points = [...namedPoints(await changesOf(story))]
    let deaths = 0
    for (const [n, pattern] of SAMPLE.entries()) {
      const [name, places] = points.find(([each]) => pattern.test(each)) ?? assert.fail(`no change is ${pattern}`)
      const { died, diedAgain, wrong } = await crashTrial(
        story,
        places[n % places.length] ?? '',
        n % 4 === 0 ? `${5 + n}` : undefined,
      )
      assert.deepEqual(wrong, [], `killed before "${name}"`)
      deaths += Number(died) + Number(diedAgain)
    }
    // A stream may come in fewer pieces than when they were counted.
    assert.ok(deaths >= SAMPLE.length - 1)
    t.diagnostic(`${points.length} places by name, killed ${deaths} times`)
  })
})
