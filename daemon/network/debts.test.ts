/** What could not be detached is tried again until it is; callers are told only while that helps. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { linux } from '#linux/linux.ts'
import { isKind } from '#proto/errors.ts'
import type { FakeScenario } from './testing/fake-network.ts'
import { failure, isGone, setup } from './testing/network-setup.ts'

const until = async (check: () => boolean): Promise<void> => {
  while (!check()) await sleep(10)
}

const STUCK: FakeScenario = { DEL: [{ do: 'error', code: 1, msg: 'stuck' }] }
const QUICK = { firstPauseMs: 20, longestPauseMs: 40 }
const NEVER = { firstPauseMs: 60_000 }

test('a detachment that failed is tried again until it works, with nobody asking', async (t) => {
  const { fake, open, pod } = setup(t, { one: STUCK })
  const network = open({ pauses: QUICK })
  const attachment = pod()
  await network.attach(attachment)
  assert.match((await failure(network.detach(attachment))).message, /stuck/)
  await until(() => (network.debts()[0]?.failures ?? 0) >= 3)
  assert.match(network.debts()[0]?.lastError ?? '', /"one" of network "fake" cannot DEL.*stuck/)
  fake.plugin('one')
  await until(() => network.attached().length === 0)
  assert.deepEqual(network.debts(), [])
  const tries = fake.sequence().length
  await sleep(100)
  assert.equal(fake.sequence().length, tries)
})

test('release() tells of two failures, then leaves the rest to the background', async (t) => {
  const { open, pod } = setup(t, { one: STUCK })
  const network = open({ pauses: NEVER })
  const attachment = pod()
  await network.attach(attachment)
  for (let n = 0; n < 2; n++) {
    assert.match((await failure(network.release(attachment, { isLast: false }))).message, /stuck/)
  }
  await network.release(attachment, { isLast: false })
  assert.deepEqual(network.attached(), [attachment.sandboxId])
  assert.equal(network.debts()[0]?.failures, 3)
})

test('release() the last time never fails', async (t) => {
  const { open, pod } = setup(t, { one: STUCK })
  const network = open({ pauses: NEVER })
  const attachment = pod()
  await network.attach(attachment)
  await network.release(attachment, { isLast: true })
  assert.deepEqual(network.attached(), [attachment.sandboxId])
})

test('one who asks again joins the detachment that is under way', async (t) => {
  const { fake, open, pod } = setup(t, { one: { DEL: [{ do: 'hang' }] } })
  const network = open({ pauses: NEVER, timeoutMs: { DEL: 1500 } })
  const attachment = pod()
  await network.attach(attachment)
  const abort = new AbortController()
  const first = failure(network.detach(attachment, undefined, abort.signal))
  const second = failure(network.detach(attachment))
  await until(() => fake.children().length === 1)
  abort.abort(new Error('gave up'))
  assert.equal((await first).message, 'gave up')
  assert.ok(isKind(await second, 'deadline-exceeded'))
  assert.deepEqual(fake.sequence(), ['ADD one', 'DEL one'])
})

test('a daemon that starts again detaches what is gone, and nothing else', async (t) => {
  const { fake, open, pod } = setup(t, { one: {} })
  const before = open()
  const [gone, stopping, damaged, attached] = [pod(), pod(), pod(), pod()]
  for (const each of [gone, stopping, damaged, attached]) await before.attach(each)
  linux.unpinNamespace(gone.netnsPath)
  writeFileSync(join(fake.cacheDir, `${damaged.sandboxId}.json`), '{"version":')
  const network = open({ pauses: QUICK })
  const fates = new Map([
    [stopping.sandboxId, 'being stopped'],
    [attached.sandboxId, 'attached'],
  ] as const)
  await network.resume((id) => fates.get(id) ?? 'gone')
  await until(() => network.attached().length === 2)
  assert.deepEqual(network.attached().sort(), [stopping.sandboxId, attached.sandboxId].sort())
  const deleted = fake.calls().filter(({ verb }) => verb === 'DEL')
  assert.deepEqual(deleted.map(({ env }) => env.CNI_CONTAINERID).sort(), [gone.sandboxId, damaged.sandboxId].sort())
})

test('a hanging plugin at the start keeps nobody waiting', async (t) => {
  const { fake, open, pod } = setup(t, { one: { DEL: [{ do: 'hang' }] } })
  await open().attach(pod())
  const network = open({ timeoutMs: { DEL: 1500 } })
  await network.resume(() => 'gone')
  await network.attach(pod())
  await until(() => fake.children().length === 1)
  await until(() => network.debts()[0]?.failures === 1)
})

test('an ADD that an earlier daemon left running is ended before anything else', async (t) => {
  const { fake, open, pod } = setup(t, { one: {} })
  const attachment = pod()
  const finished = pod()
  const before = open()
  await before.attach(finished)
  fake.plugin('one', { ADD: [{ do: 'result', result: undefined }, { do: 'hang' }] })
  // As if the daemon had died here: nobody waits for the plugin any more.
  const lost = failure(before.attach(attachment))
  await until(() => fake.children().length === 1)
  open()
  const plugin = fake.calls().at(-1)
  await until(() => isGone(plugin?.pid ?? 0) && fake.children().every(isGone))
  await lost
})
