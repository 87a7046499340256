/** STATUS and GC of CNI 1.1, and the list settings that came with it. */
import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { chain, type FakeNetwork } from './testing/fake-network.ts'
import { failure, setup } from './testing/network-setup.ts'

const chain11 = (...types: string[]) => ({ ...chain(...types), cniVersion: '1.1.0' })

const until = async (check: () => boolean): Promise<void> => {
  while (!check()) await sleep(10)
}

const callsWith = (fake: FakeNetwork, verb: string) => fake.calls().filter((call) => call.verb === verb)

const QUICK = { whenReadyMs: 30, whenNotReadyMs: 30, firstPauseMs: 10_000 }

test('a network of CNI 1.1 is ready when all of its plugins say so, from memory', async (t) => {
  const { fake, open } = setup(t, {
    one: {},
    two: {
      STATUS: [
        { do: 'error', code: 50, msg: 'no route to controller' },
        { do: 'result', result: undefined },
      ],
    },
  })
  fake.config('10-fake.conflist', chain11('one', 'two'))
  const network = open({ pauses: QUICK })
  assert.deepEqual(network.ready(), { ok: false, reason: 'network "fake" has not answered STATUS yet' })
  await until(() => callsWith(fake, 'STATUS').length >= 2)
  await until(() => {
    const ready = network.ready()
    return !ready.ok && ready.reason.includes('cannot STATUS: no route to controller')
  })
  await until(() => network.ready().ok)
  const [first] = callsWith(fake, 'STATUS')
  assert.equal(first?.name, 'one')
  assert.deepEqual(first?.config, { type: 'one', name: 'fake', cniVersion: '1.1.0' })
  assert.equal(first?.env.CNI_CONTAINERID, undefined)
})

test('a plugin that hangs at STATUS keeps nobody waiting, and is asked again', async (t) => {
  const { fake, open, pod } = setup(t, { one: { STATUS: [{ do: 'hang' }, { do: 'result', result: undefined }] } })
  fake.config('10-fake.conflist', chain11('one'))
  const network = open({ pauses: QUICK, timeoutMs: { STATUS: 1500 } })
  await until(() => fake.children().length === 1)
  assert.equal(network.ready().ok, false)
  await network.attach(pod())
  await until(() => network.ready().ok)
})

test('older networks are not asked; another configuration is, before it counts as ready', async (t) => {
  const { fake, open } = setup(t, { one: {}, two: {} })
  const network = open({ pauses: QUICK })
  assert.deepEqual(network.ready(), { ok: true })
  fake.plugin('one', { STATUS: [{ do: 'error', code: 50, msg: 'not yet' }] })
  fake.config('10-fake.conflist', chain11('one'))
  await until(() => !network.ready().ok)
  fake.config('05-other.conflist', { ...chain('two'), name: 'other' })
  await until(() => network.ready().ok)
  assert.ok(callsWith(fake, 'STATUS').every(({ name }) => name === 'one'))
})

test('GC is told which attachments to keep, and pays the debts that it covers', async (t) => {
  const { fake, open, pod } = setup(t, { one: { DEL: [{ do: 'error', code: 1, msg: 'stuck' }] }, two: {} })
  fake.config('10-fake.conflist', chain11('one', 'two'))
  const network = open({ pauses: QUICK })
  const [kept, owed] = [pod(), pod()]
  await network.attach(kept)
  await network.attach(owed)
  await network.release(owed, { isLast: true })
  assert.deepEqual(
    network.debts().map(({ sandboxId, failures }) => [sandboxId, failures]),
    [[owed.sandboxId, 1]],
  )
  await network.collectGarbage()
  const gc = callsWith(fake, 'GC')
  assert.deepEqual(
    gc.map(({ name }) => name),
    ['one', 'two'],
  )
  const valid = [{ containerID: kept.sandboxId, ifname: 'eth0' }]
  for (const { config } of gc) assert.deepEqual(config['cni.dev/valid-attachments'], valid)
  assert.deepEqual(network.debts(), [])
  assert.deepEqual(network.attached(), [kept.sandboxId])
})

test('a GC that fails in one plugin goes on to the next, and pays nothing', async (t) => {
  const broken = { GC: [{ do: 'error', code: 1, msg: 'no' }], DEL: [{ do: 'error', code: 1, msg: 'no' }] } as const
  const { fake, open, pod } = setup(t, { one: { GC: [...broken.GC], DEL: [...broken.DEL] }, two: {} })
  fake.config('10-fake.conflist', chain11('one', 'two'))
  const network = open({ pauses: QUICK })
  const owed = pod()
  await network.attach(owed)
  await network.release(owed, { isLast: true })
  await network.collectGarbage()
  assert.equal(callsWith(fake, 'GC').length, 2)
  assert.deepEqual(network.attached(), [owed.sandboxId])
})

test('GC waits for a running ADD, and others need not wait for either', async (t) => {
  const { fake, open, pod } = setup(t, { one: { ADD: [{ do: 'hang' }] } })
  fake.config('10-fake.conflist', chain11('one'))
  const network = open({ pauses: QUICK, timeoutMs: { ADD: 2000 } })
  const hanging = failure(network.attach(pod()))
  await until(() => fake.children().length === 1)
  fake.plugin('one')
  const collecting = network.collectGarbage()
  const other = pod()
  await network.attach(other)
  assert.equal(callsWith(fake, 'GC').length, 0)
  await hanging
  await collecting
  assert.equal(callsWith(fake, 'GC').length, 1)
  assert.deepEqual(callsWith(fake, 'GC')[0]?.config['cni.dev/valid-attachments'], [
    { containerID: other.sandboxId, ifname: 'eth0' },
  ])
})

test('GC is not run where the network does not know it or does not want it', async (t) => {
  const { fake, open } = setup(t, { one: {} })
  await open().collectGarbage()
  fake.config('10-fake.conflist', { ...chain11('one'), disableGC: true })
  await open().collectGarbage()
  assert.equal(callsWith(fake, 'GC').length, 0)
})

test('plugins in a directory of the name of the network join its chain, unless it wants only its own', async (t) => {
  const { fake, open, pod } = setup(t, { one: {}, two: {}, three: {} })
  fake.config('10-fake.conflist', chain('one'))
  mkdirSync(join(fake.configDir, 'fake'))
  writeFileSync(join(fake.configDir, 'fake', '20-three.conf'), JSON.stringify({ type: 'three' }))
  writeFileSync(join(fake.configDir, 'fake', '10-two.conf'), JSON.stringify({ type: 'two' }))
  await open().attach(pod())
  assert.deepEqual(fake.sequence(), ['ADD one', 'ADD two', 'ADD three'])
  fake.config('10-fake.conflist', { ...chain('one'), loadOnlyInlinedPlugins: true })
  await open().attach(pod())
  assert.deepEqual(fake.sequence().slice(3), ['ADD one'])
})
