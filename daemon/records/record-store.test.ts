import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import * as z from 'zod'
import { linux } from '#linux/linux.ts'
import { recordLinux } from '#linux/recording-linux.ts'
import type { RuntimeError } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import { type RecordCodec, RecordStore } from './record-store.ts'
import { bigintText } from './schema.ts'

const Thing = z.object({ id: z.string(), key: z.string(), at: bigintText })
const State = z.object({ state: z.enum(['new', 'old']) })
type Thing = z.infer<typeof Thing>
type State = z.infer<typeof State>

const codec: RecordCodec<string, Thing, State> = {
  noun: 'thing',
  parseId: (text) => (/^[a-f]{4}$/.test(text) ? text : undefined),
  recordToJson: (record) => record,
  parseRecord: (json) => Thing.parse(json),
  parseStatus: (json) => State.parse(json),
  initial: { state: 'new' },
  afterDamage: () => ({ state: 'old' }),
  isVisible: () => true,
}

async function openStore(t: TestContext, dir?: string, base = linux) {
  const home = dir ?? (await mkdtemp(join(tmpdir(), 'records-')))
  if (!dir) t.after(() => rm(home, { recursive: true, force: true }))
  const store = new RecordStore({ dir: home, codec, linux: base, log: silentLog })
  await store.load()
  return { store, home }
}

const thing = (id: string): Thing => ({ id, key: `key of ${id}`, at: 2n ** 60n })

test('what was created and updated is there after a restart', async (t) => {
  const { store, home } = await openStore(t)
  const created = await store.create(thing('aaaa'), { state: 'new' })
  await created.update(() => ({ state: 'old' }), { durable: true })
  const again = (await openStore(t, home)).store
  assert.deepEqual(again.get('aaaa')?.record, thing('aaaa'))
  assert.deepEqual(again.get('aaaa')?.status, { state: 'old' })
})

test('a second object with the same key is refused, and the key is free again after delete()', async (t) => {
  const { store } = await openStore(t)
  await store.create(thing('aaaa'), { state: 'new' })
  const twin = { ...thing('bbbb'), key: thing('aaaa').key }
  await assert.rejects(
    store.create(twin, { state: 'new' }),
    (error) => (error as RuntimeError).kind === 'already-exists',
  )
  await store.delete('aaaa')
  await store.create(twin, { state: 'new' })
})

test('a create that cannot be written leaves nothing, on disk or in memory', async (t) => {
  const { home } = await openStore(t)
  const fake = recordLinux(linux)
  fake.failCall('writeFileAtomic', 1, 'ENOSPC')
  const { store } = await openStore(t, home, fake.linux)
  await assert.rejects(store.create(thing('aaaa'), { state: 'new' }), { kind: 'resource-exhausted' })
  assert.equal(store.byKey('key of aaaa'), undefined)
  assert.deepEqual(await readdir(home), [])
})

test('an update that cannot be written changes nothing', async (t) => {
  const { home } = await openStore(t)
  const fake = recordLinux(linux)
  const { store } = await openStore(t, home, fake.linux)
  const stored = await store.create(thing('aaaa'), { state: 'new' })
  fake.failCall('writeFileAtomic', 1, 'ENOSPC')
  await assert.rejects(
    stored.update(() => ({ state: 'old' })),
    { kind: 'resource-exhausted' },
  )
  assert.deepEqual(stored.status, { state: 'new' })
  await stored.update(() => ({ state: 'old' }))
  assert.deepEqual(stored.status, { state: 'old' })
})

test('an update of what has happened anyway is published, and written once the disk takes it', async (t) => {
  const { home } = await openStore(t)
  const fake = recordLinux(linux)
  const { store } = await openStore(t, home, fake.linux)
  const stored = await store.create(thing('aaaa'), { state: 'new' })
  fake.failCall('writeFileAtomic', 1, 'EROFS')
  await stored.update(() => ({ state: 'old' }), { durable: true, orLater: true })
  assert.deepEqual(stored.status, { state: 'old' })
  const onDisk = async () => (await openStore(t, home)).store.get('aaaa')?.status.state
  assert.equal(await onDisk(), 'new')
  while ((await onDisk()) === 'new') await sleep(50)
})

test('what is owed to a disk goes with its object', async (t) => {
  const { home } = await openStore(t)
  const fake = recordLinux(linux)
  const { store } = await openStore(t, home, fake.linux)
  const stored = await store.create(thing('aaaa'), { state: 'new' })
  fake.failCall('writeFileAtomic', 1, 'ENOSPC')
  await stored.update(() => ({ state: 'old' }), { orLater: true })
  await store.delete('aaaa')
  await sleep(1500)
  assert.deepEqual(await readdir(home), [])
})

test('an update that fails for other reasons than the disk is not published', async (t) => {
  const { home } = await openStore(t)
  const fake = recordLinux(linux)
  const { store } = await openStore(t, home, fake.linux)
  const stored = await store.create(thing('aaaa'), { state: 'new' })
  fake.failCall('writeFileAtomic', 1, 'EMFILE')
  await assert.rejects(
    stored.update(() => ({ state: 'old' }), { orLater: true }),
    { code: 'EMFILE' },
  )
  assert.deepEqual(stored.status, { state: 'new' })
})

test('updates apply one after the other', async (t) => {
  const { store } = await openStore(t)
  const stored = await store.create(thing('aaaa'), { state: 'new' })
  const seen: string[] = []
  const note = (next: State) => (now: State) => {
    seen.push(now.state)
    return next
  }
  await Promise.all([
    stored.update(note({ state: 'old' })),
    stored.update(note({ state: 'new' })),
    stored.update(note({ state: 'old' })),
  ])
  assert.deepEqual(seen, ['new', 'old', 'new'])
})

test('a damaged record is set aside whole, and the others are served', async (t) => {
  const { store, home } = await openStore(t)
  await store.create(thing('aaaa'), { state: 'new' })
  await store.create(thing('bbbb'), { state: 'new' })
  await writeFile(join(home, 'aaaa', 'config.json'), '{"id": "aaaa"')
  const again = (await openStore(t, home)).store
  assert.equal(again.get('aaaa'), undefined)
  assert.ok(again.get('bbbb'))
  const [aside] = await readdir(join(home, 'quarantine'))
  assert.equal(await readFile(join(home, 'quarantine', aside ?? '', 'config.json'), 'utf8'), '{"id": "aaaa"')
})

test('an object whose status alone is damaged stays, at its end', async (t) => {
  const { store, home } = await openStore(t)
  await store.create(thing('aaaa'), { state: 'new' })
  await writeFile(join(home, 'aaaa', 'status.json'), '{"sta')
  for (let start = 0; start < 2; start++) {
    const again = (await openStore(t, home)).store
    assert.deepEqual(again.get('aaaa')?.status, { state: 'old' })
  }
  const aside = await readdir(join(home, 'quarantine'))
  assert.equal(aside.length, 1, 'set aside once')
  assert.equal(await readFile(join(home, 'quarantine', aside[0] ?? ''), 'utf8'), '{"sta')
})

test('records of before, without a checksum, are read', async (t) => {
  const { store, home } = await openStore(t)
  await store.create(thing('aaaa'), { state: 'new' })
  await writeFile(join(home, 'aaaa', 'config.json'), JSON.stringify({ ...thing('aaaa'), at: '7' }))
  await writeFile(join(home, 'aaaa', 'status.json'), '{"state":"old"}')
  const again = (await openStore(t, home)).store
  assert.equal(again.get('aaaa')?.record.at, 7n)
  assert.deepEqual(again.get('aaaa')?.status, { state: 'old' })
})

test('a record that is one letter off is not believed', async (t) => {
  const { store, home } = await openStore(t)
  await store.create(thing('aaaa'), { state: 'new' })
  const path = join(home, 'aaaa', 'config.json')
  await writeFile(path, (await readFile(path, 'utf8')).replace('key of', 'key.of'))
  assert.equal((await openStore(t, home)).store.get('aaaa'), undefined)
})

test('a record whose creation or deletion was cut short is not an object', async (t) => {
  const { store, home } = await openStore(t)
  await store.create(thing('aaaa'), { state: 'new' })
  await rm(join(home, 'aaaa', 'config.json'))
  const again = (await openStore(t, home)).store
  assert.equal(again.all().length, 0)
  assert.deepEqual(await readdir(home), [])
})

test('find() takes an unambiguous prefix and refuses an ambiguous or empty one', async (t) => {
  const { store } = await openStore(t)
  await store.create(thing('aaaa'), { state: 'new' })
  await store.create(thing('aaab'), { state: 'new' })
  assert.equal(store.find('aaab')?.record.id, 'aaab')
  await store.create(thing('bbbb'), { state: 'new' })
  assert.equal(store.find('b')?.record.id, 'bbbb')
  assert.equal(store.find('c'), undefined)
  for (const text of ['aaa', '']) {
    assert.throws(
      () => store.find(text),
      (error) => (error as RuntimeError).kind === 'invalid-argument',
    )
  }
  assert.throws(
    () => store.require('cccc'),
    (error) => (error as RuntimeError).kind === 'not-found',
  )
})
