/** Records of sandboxes and containers after power cuts (P1, P4). */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import * as z from 'zod'
import { linux } from '#linux/linux.ts'
import { silentLog } from '#proto/log.ts'
import { recordStory } from '#storage/testing/power-cut/record-story.ts'
import type { Recording } from '#storage/testing/power-cut/record-writes.ts'
import { forgetting, tryStates } from '#storage/testing/power-cut/try-states.ts'
import { type RecordCodec, RecordStore } from './record-store.ts'

const Thing = z.object({ id: z.string(), key: z.string(), text: z.string() })
const State = z.object({ state: z.enum(['creating', 'ready', 'exited', 'damaged']) })
type Thing = z.infer<typeof Thing>
type State = z.infer<typeof State>

const codec: RecordCodec<string, Thing, State> = {
  noun: 'thing',
  parseId: (text) => (/^[a-f]{4}$/.test(text) ? text : undefined),
  recordToJson: (record) => record,
  parseRecord: (json) => Thing.parse(json),
  parseStatus: (json) => State.parse(json),
  initial: { state: 'creating' },
  afterDamage: () => ({ state: 'damaged' }),
  isVisible: () => true,
}

const openAt = async (root: string, at = linux): Promise<RecordStore<string, Thing, State>> => {
  const store = new RecordStore({ dir: join(root, 'things'), codec, linux: at, log: silentLog })
  await store.load()
  return store
}

const thing = (id: string): Thing => ({ id, key: id, text: id.repeat(300) })

const tellStory = async (root: string, { linux: at, told }: Recording): Promise<void> => {
  const store = await openAt(root, at)
  for (const id of ['aaaa', 'bbbb']) {
    const stored = await store.create(thing(id), { state: 'creating' })
    told(`created ${id}`)
    await stored.update(() => ({ state: 'ready' }))
    await stored.update(() => ({ state: 'exited' }), { durable: true })
    told(`exited ${id}`)
  }
  told('deleting aaaa')
  await store.delete('aaaa')
  told('deleted aaaa')
}

const judge = async (root: string, told: ReadonlySet<string>): Promise<string[]> => {
  const store = await openAt(root)
  const wrong: string[] = []
  for (const id of ['aaaa', 'bbbb']) {
    const found = store.get(id)
    if (told.has(`created ${id}`) && !told.has(`deleting ${id}`) && !found) wrong.push(`${id} is lost`)
    if (told.has(`deleted ${id}`) && found) wrong.push(`${id} has come back`)
    if (found && JSON.stringify(found.record) !== JSON.stringify(thing(id))) wrong.push(`${id} is another`)
    if (told.has(`exited ${id}`) && !told.has(`deleting ${id}`) && found?.status.state !== 'exited')
      wrong.push(`the exit of ${id} is lost`)
  }
  // A status that was not yet durable may be lost; what has a record never is.
  const aside = readdirSync(join(root, 'things')).includes('quarantine')
    ? readdirSync(join(root, 'things/quarantine'))
    : []
  return [...wrong, ...aside.filter((name) => !name.includes('status')).map((name) => `${name} was put aside`)]
}

const { recording } = await recordStory({ after }, tellStory)

test('records after a power cut are those of before or of after, and none is lost', async (t) => {
  const tried = await tryStates(recording, { perCut: 30, seed: 1 }, judge)
  t.diagnostic(`${recording.log.length} changes, ${tried.states} states, ${tried.distinct} of them different`)
  assert.deepEqual(tried.illegal, [])
})

for (const [what, pattern] of [
  ['of the directory of records', /^sync \/things$/],
  ['of a record before its name', /\.config\.json\.\w+\.tmp$/],
  ['of a status before its name', /\.status\.json\.\w+\.tmp$/],
  ['of the names in an object', /^sync \/things\/\w+$/],
] as const)
  test(`records would be caught without the sync ${what}`, async (t) => {
    const { illegal } = await tryStates(
      forgetting(recording, (text) => pattern.test(text)),
      { perCut: 30, seed: 1 },
      judge,
      1,
    )
    assert.notDeepEqual(illegal, [])
    t.diagnostic(illegal[0] ?? '')
  })
