import assert from 'node:assert/strict'
import { tmpdir } from 'node:os'
import { describe, it } from 'node:test'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import { Syncs } from './syncs.ts'

/** A file system whose syncs end when told to. */
const slowDisk = (t: { after(cleanUp: () => void): void }) => {
  const running: PromiseWithResolvers<void>[] = []
  let begun = 0
  const syncs = new Syncs(tmpdir(), {
    syncfs: () => {
      begun++
      const one = Promise.withResolvers<void>()
      running.push(one)
      return one.promise
    },
  })
  t.after(() => syncs.close())
  const end = async (error?: Error): Promise<void> => {
    const one = running.shift() ?? assert.fail('no sync is running')
    if (error === undefined) one.resolve()
    else one.reject(error)
    await turn()
  }
  return { syncs, end, begun: () => begun, atOnce: () => running.length }
}

/** Says in the list when it is on the disk, or why not. */
const waitFor = (syncs: Syncs, name: string, said: string[], data = syncs.begin()): void => {
  data.onDisk().then(
    () => said.push(name),
    (error: Error) => said.push(`${name}: ${error.message}`),
  )
}

describe('syncs', () => {
  it('are one for all who came while another ran, and never that other, which began before', async (t) => {
    const { syncs, end, begun, atOnce } = slowDisk(t)
    const said: string[] = []
    waitFor(syncs, 'first', said)
    for (const name of ['second', 'third', 'fourth']) waitFor(syncs, name, said)
    assert.deepEqual([begun(), atOnce()], [1, 1])
    await end()
    assert.deepEqual([said, begun(), atOnce()], [['first'], 2, 1])
    waitFor(syncs, 'fifth', said)
    await end()
    assert.deepEqual([said, begun()], [['first', 'second', 'third', 'fourth'], 3])
    await end()
    assert.equal(said.at(-1), 'fifth')
  })

  it('that fail, also ahead of time, fail for everybody who was writing then, and for nobody who begins later', async (t) => {
    const { syncs, end } = slowDisk(t)
    const said: string[] = []
    const [early, also] = [syncs.begin(), syncs.begin()]
    syncs.ahead()
    await end(new Error('EIO'))
    waitFor(syncs, 'early', said, early)
    await end()
    waitFor(syncs, 'also', said, also)
    await end()
    waitFor(syncs, 'later', said)
    await end()
    assert.deepEqual(said, ['early: EIO', 'also: EIO', 'later'])
  })

  it('ahead of time are never two at once, and have pauses', async (t) => {
    const { syncs, end, begun } = slowDisk(t)
    for (let n = 0; n < 5; n++) syncs.ahead()
    assert.equal(begun(), 1)
    await end()
    syncs.ahead()
    assert.equal(begun(), 1)
    await sleep(150)
    syncs.ahead()
    assert.equal(begun(), 2)
    await end()
  })
})
