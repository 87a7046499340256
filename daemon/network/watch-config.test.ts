import assert from 'node:assert/strict'
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { silentLog } from '#proto/log.ts'
import type { Repeat } from '#storage/slow-looks.ts'
import { chain, type FakeNetwork, fakeNetwork } from './testing/fake-network.ts'
import { type WatchedConfig, watchConfig } from './watch-config.ts'

const often =
  (ms: number): Repeat =>
  (look) => {
    const timer = setInterval(look, ms)
    return () => clearInterval(timer)
  }

/** `pollMs` far away unless the test is about polling: what comes must then come from events. */
const watched = (t: TestContext, fake: FakeNetwork, pollMs = 600_000): WatchedConfig => {
  const watch = watchConfig({
    configDir: fake.configDir,
    binDirs: [fake.binDir],
    log: silentLog,
    repeat: often(pollMs),
  })
  t.after(() => watch.close())
  return watch
}

const until = async (what: string, isTrue: () => boolean): Promise<void> => {
  const deadline = performance.now() + 10_000
  while (!isTrue()) {
    assert.ok(performance.now() < deadline, `waited in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

const setup = (t: TestContext): FakeNetwork => {
  const fake = fakeNetwork(t)
  fake.plugin('one')
  return fake
}

test('ready() tells why there is no network, naming the broken files', (t) => {
  const fake = setup(t)
  fake.config('10-x.conf', '{')
  const ready = watched(t, fake).ready()
  assert.equal(ready.ok, false)
  assert.match(
    ready.ok ? '' : ready.reason,
    /no usable CNI network configuration in ".*net\.d"; ".*10-x\.conf" is not valid JSON/,
  )
})

test('a configuration that comes, changes and goes is noticed', async (t) => {
  const fake = setup(t)
  const watch = watched(t, fake)
  assert.equal(watch.ready().ok, false)
  fake.config('20-a.conflist', chain('one'))
  await until('first file', () => watch.ready().ok)
  writeFileSync(join(fake.configDir, 'new.tmp'), JSON.stringify({ ...chain('one'), name: 'replaced' }))
  renameSync(join(fake.configDir, 'new.tmp'), join(fake.configDir, '20-a.conflist'))
  await until('replaced file', () => watch.current()?.name === 'replaced')
  fake.config('10-before.conflist', { ...chain('one'), name: 'before' })
  await until('file before it', () => watch.current()?.name === 'before')
  rmSync(join(fake.configDir, '10-before.conflist'))
  rmSync(join(fake.configDir, '20-a.conflist'))
  await until('no file', () => !watch.ready().ok)
})

test('a directory that does not exist yet, is removed and comes back is watched all the same', async (t) => {
  const fake = setup(t)
  rmSync(fake.configDir, { recursive: true })
  const deep = join(fake.dir, 'etc', 'cni', 'net.d')
  const watch = watched(t, { ...fake, configDir: deep })
  for (const name of ['first', 'second']) {
    mkdirSync(deep, { recursive: true })
    writeFileSync(join(deep, '10-x.conflist'), JSON.stringify({ ...chain('one'), name }))
    await until(name, () => watch.current()?.name === name)
    rmSync(join(fake.dir, 'etc'), { recursive: true })
    await until('gone', () => !watch.ready().ok)
  }
})

test('a directory replaced by another one is watched from then on', async (t) => {
  const fake = setup(t)
  fake.config('10-a.conflist', chain('one'))
  const watch = watched(t, fake)
  renameSync(fake.configDir, `${fake.configDir}.old`)
  mkdirSync(fake.configDir)
  await until('empty directory', () => !watch.ready().ok)
  fake.config('10-a.conflist', { ...chain('one'), name: 'again' })
  await until('new file', () => watch.current()?.name === 'again')
})

test('polling alone finds a plugin that is installed later', async (t) => {
  const fake = setup(t)
  fake.config('10-a.conflist', chain('one', 'late'))
  const watch = watched(t, fake, 50)
  assert.match(JSON.stringify(watch.ready()), /"late\\", which are not in/)
  fake.plugin('late')
  await until('plugin', () => watch.ready().ok)
})

test('refresh() looks at once', (t) => {
  const fake = setup(t)
  const watch = watched(t, fake)
  fake.config('10-a.conflist', chain('one'))
  watch.refresh()
  assert.equal(watch.current()?.name, 'fake')
})
