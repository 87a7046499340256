/** What the pod network does when plugins, callers and records fail it. */
import assert from 'node:assert/strict'
import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { recordLinux } from '#linux/recording-linux.ts'
import { isKind } from '#proto/errors.ts'
import type { PodAttachment } from './pod-network.ts'
import { chain, type FakeScenario } from './testing/fake-network.ts'
import { failure, isGone, setup } from './testing/network-setup.ts'

test('a failing ADD is undone from the plugin that failed backwards, and its error is the one that is reported', async (t) => {
  const { fake, open, pod } = setup(t, {
    one: {},
    two: { ADD: [{ do: 'error', code: 100, msg: 'no more\u001b[31m addresses', details: 'pool is\nfull' }] },
    three: {},
  })
  const network = open()
  const attachment = pod()
  const error = await failure(network.attach(attachment))
  assert.ok(isKind(error, 'internal'))
  assert.equal(
    error.message,
    `CNI plugin "two" of network "fake" cannot ADD sandbox "${attachment.sandboxId}": no more[31m addresses: pool is full`,
  )
  assert.deepEqual(fake.sequence(), ['ADD one', 'ADD two', 'DEL two', 'DEL one'])
  assert.deepEqual(network.attached(), [])
})

test('a failing ADD whose undoing fails too stays on record until detach succeeds', async (t) => {
  const { fake, open, pod } = setup(t, {
    one: {
      DEL: [
        { do: 'error', code: 5, msg: 'busy' },
        { do: 'stderr', text: 'still busy\n' },
        { do: 'result', result: undefined },
      ],
    },
    two: { ADD: [{ do: 'error', code: 11, msg: 'later' }] },
  })
  const network = open()
  const attachment = pod()
  const error = await failure(network.attach(attachment))
  assert.ok(isKind(error, 'unavailable'))
  assert.match(error.message, /"two".*later/)
  assert.deepEqual(network.attached(), [attachment.sandboxId])
  assert.match((await failure(network.detach(attachment))).message, /"one".*still busy/)
  await network.detach(attachment)
  assert.deepEqual(network.attached(), [])
  assert.deepEqual(fake.sequence().slice(2), ['DEL two', 'DEL one', 'DEL two', 'DEL one', 'DEL two', 'DEL one'])
})

test('DEL stops at the plugin that fails, so that no address is free while rules still lead to it', async (t) => {
  const { fake, open, pod } = setup(t, { one: {}, two: { DEL: [{ do: 'kill' }, { do: 'result', result: undefined }] } })
  const network = open()
  const attachment = pod()
  await network.attach(attachment)
  assert.match((await failure(network.detach(attachment))).message, /"two".*ended by signal 9/)
  assert.deepEqual(fake.sequence().slice(2), ['DEL two'])
  await network.detach(attachment)
  assert.deepEqual(network.attached(), [])
})

test('a hanging plugin is killed with its children at its deadline', async (t) => {
  const { fake, open, pod } = setup(t, { one: { ADD: [{ do: 'hang' }] } })
  const network = open({ timeoutMs: { ADD: 1500 } })
  const error = await failure(network.attach(pod()))
  assert.ok(isKind(error, 'deadline-exceeded'))
  assert.match(error.message, /"one".*did not finish within 1.5 s and was killed/)
  assert.deepEqual(fake.sequence(), ['ADD one', 'DEL one'])
  assert.equal(fake.children().length, 1)
  assert.ok([...fake.children(), ...fake.calls().map(({ pid }) => pid)].every(isGone))
})

test('a caller who gives up ends the plugin, and what was done is undone', async (t) => {
  const { fake, open, pod } = setup(t, { one: {}, two: { ADD: [{ do: 'hang' }] } })
  const network = open()
  const abort = new AbortController()
  const attached = failure(network.attach(pod(), abort.signal))
  while (fake.children().length === 0) await new Promise((resolve) => setTimeout(resolve, 20))
  abort.abort(new Error('gave up'))
  assert.ok(isKind(await attached, 'cancelled'))
  assert.deepEqual(fake.sequence(), ['ADD one', 'ADD two', 'DEL two', 'DEL one'])
  assert.ok(fake.children().every(isGone))
  assert.deepEqual(network.attached(), [])
})

const nonsense: [string, FakeScenario, RegExp][] = [
  ['prints nothing', { ADD: [{ do: 'print', text: '' }] }, /prints no result/],
  ['prints what is no JSON', { ADD: [{ do: 'print', text: 'hello' }] }, /no CNI result: hello/],
  ['prints half a result', { ADD: [{ do: 'print', text: '{"ips":[' }] }, /no CNI result/],
  ['prints a list', { ADD: [{ do: 'print', text: '[]' }] }, /no CNI result/],
  ['prints without end', { ADD: [{ do: 'flood', bytes: 8 * 1024 * 1024 }] }, /no CNI result: x{200}$/],
  ['gives no address', { ADD: [{ do: 'result', result: { cniVersion: '1.0.0' } }] }, /no IP address/],
  ['gives a garbage address', { ADD: [{ do: 'result', result: { ips: [{ address: 'ten/24' }] } }] }, /"ten\/24"/],
  ['fails without a word', { ADD: [{ do: 'print', text: '', exit: 3 }] }, /exited with 3/],
  ['fails with garbage', { ADD: [{ do: 'print', text: '\u0007oops', exit: 3 }] }, /: oops$/],
  ['fails with too many words', { ADD: [{ do: 'stderr', text: 'e'.repeat(100_000) }] }, /: e{1024}…$/],
  ['is killed', { ADD: [{ do: 'kill' }] }, /signal 9/],
]
for (const [what, scenario, message] of nonsense) {
  test(`attach() fails and undoes when a plugin ${what}`, async (t) => {
    const { fake, open, pod } = setup(t, { one: scenario })
    const network = open()
    assert.match((await failure(network.attach(pod()))).message, message)
    assert.deepEqual(fake.sequence(), ['ADD one', 'DEL one'])
    assert.deepEqual(network.attached(), [])
  })
}

test('a daemon that died in the middle of ADD leaves a record with which DEL is run', async (t) => {
  const { fake, open, pod } = setup(t, { one: {} })
  const recording = recordLinux()
  recording.failCall('writeFileAtomic', 2, 'EIO')
  const attachment = pod()
  // Dying is played by an undo that cannot run the plugin either.
  recording.failCall('runCommand', 2, 'EAGAIN')
  const error = await failure(open({ linux: recording.linux }).attach(attachment))
  assert.equal('code' in error && error.code, 'EIO')
  const restarted = open()
  assert.deepEqual(restarted.attached(), [attachment.sandboxId])
  await restarted.detach(attachment)
  assert.deepEqual(fake.sequence(), ['ADD one', 'DEL one'])
})

test('the intent is durable before the first plugin runs', async (t) => {
  const { open, pod } = setup(t, { one: {} })
  const recording = recordLinux()
  await open({ linux: recording.linux }).attach(pod())
  const names = recording.calls
    .map(({ name }) => name)
    .filter((name) => name === 'writeFileAtomic' || name === 'runCommand')
  assert.deepEqual(names, ['writeFileAtomic', 'runCommand', 'writeFileAtomic'])
  const first = recording.calls.find(({ name }) => name === 'writeFileAtomic')
  assert.deepEqual(first?.args[2], { durable: true })
})

test('a damaged record is answered with DEL by the configuration of today', async (t) => {
  const { fake, open, pod } = setup(t, { one: {} })
  const network = open()
  const attachment = pod()
  const result = await network.attach(attachment)
  const [record] = readdirSync(fake.cacheDir).filter((name) => name.endsWith('.json'))
  writeFileSync(join(fake.cacheDir, record ?? ''), '{"version":1')
  await network.detach(attachment, result)
  assert.deepEqual(fake.calls().at(-1)?.config.prevResult, result.raw)
  assert.deepEqual(network.attached(), [])
})

test('a damaged result does not keep DEL from running', async (t) => {
  const { fake, open, pod } = setup(t, { one: {} })
  const network = open()
  const attachment = pod()
  await network.attach(attachment)
  writeFileSync(join(fake.cacheDir, `${attachment.sandboxId}.result`), '')
  await network.detach(attachment)
  assert.deepEqual(fake.sequence(), ['ADD one', 'DEL one'])
  assert.equal('prevResult' in (fake.calls()[1]?.config ?? {}), false)
  assert.deepEqual(readdirSync(fake.cacheDir), [])
})

test('attach() fails before it does anything when there is no network, a plugin is missing, or a value cannot be passed on', async (t) => {
  const { fake, open, pod } = setup(t)
  const network = open()
  assert.ok(isKind(await failure(network.attach(pod())), 'failed-precondition'))
  fake.config('10-fake.conflist', chain('absent'))
  const error = await failure(network.attach(pod()))
  assert.ok(isKind(error, 'failed-precondition'))
  assert.match(error.message, new RegExp(`"absent".*${fake.binDir}`))
  fake.plugin('absent')
  const bad: Partial<PodAttachment>[] = [
    { name: 'x;K8S_POD_NAME=y' },
    { sandboxId: '../x' },
    { annotations: { 'kubernetes.io/ingress-bandwidth': 'fast' } },
  ]
  for (const fields of bad) assert.ok(isKind(await failure(network.attach(pod(fields))), 'invalid-argument'))
  assert.deepEqual(fake.sequence(), [])
  assert.deepEqual(network.attached(), [])
})

test('a plugin that vanished after start is named with the directories that were searched', async (t) => {
  const { fake, open, pod } = setup(t, { one: {} })
  const network = open()
  rmSync(join(fake.binDir, 'one'))
  const error = await failure(network.attach(pod()))
  assert.ok(isKind(error, 'failed-precondition'))
  assert.match(error.message, new RegExp(`"one" is not in ${fake.binDir}`))
})
