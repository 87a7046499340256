import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { linux } from '#linux/linux.ts'
import { recordLinux } from '#linux/recording-linux.ts'
import { isKind } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import type { CniVerb } from './cni-plugin.ts'
import { openPodNetwork, type PodAttachment, type PodNetworkOptions } from './pod-network.ts'
import { chain, type FakeNetwork, type FakeScenario, fakeNetwork } from './testing/fake-network.ts'

interface Setup {
  fake: FakeNetwork
  open(options?: Partial<PodNetworkOptions>): ReturnType<typeof openPodNetwork>
  pod(fields?: Partial<PodAttachment>): PodAttachment
}

/** A network of fake plugins and pinned network namespaces; all of it goes when the test ends. */
const setup = (t: TestContext, plugins: Record<string, FakeScenario> = {}): Setup => {
  const fake = fakeNetwork(t)
  for (const [name, scenario] of Object.entries(plugins)) fake.plugin(name, scenario)
  if (Object.keys(plugins).length > 0) fake.config('10-fake.conflist', chain(...Object.keys(plugins)))
  let count = 0
  return {
    fake,
    open(options = {}) {
      const { configDir, binDir, cacheDir } = fake
      const network = openPodNetwork({ configDir, binDirs: [binDir], cacheDir, log: silentLog, linux, ...options })
      fake.defer(() => network.close())
      return network
    },
    pod(fields = {}) {
      const sandboxId = `sandbox${++count}`
      const netnsPath = join(fake.dir, sandboxId)
      linux.createNamespaces({ kinds: ['net'], pins: { net: netnsPath } })
      fake.defer(() => linux.unpinNamespace(netnsPath))
      const names = { name: 'web', namespace: 'default', uid: 'u-1' }
      return { sandboxId, ...names, netnsPath, portMappings: [], annotations: {}, ...fields }
    },
  }
}

const failure = async (promise: Promise<unknown>): Promise<Error & { kind?: string }> =>
  promise.then(
    () => assert.fail('did not fail'),
    (error) => error,
  )

const isGone = (pid: number): boolean => {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return true
  }
}

test('attach() runs the chain in order, each plugin given the result of the one before', async (t) => {
  const { fake, open, pod } = setup(t, { one: {}, two: {} })
  const network = open()
  assert.deepEqual(network.ready(), { ok: true })
  const attachment = pod()
  const result = await network.attach(attachment)
  assert.deepEqual(result.ips, ['10.88.0.5'])
  const [first, second] = fake.calls()
  assert.deepEqual(fake.sequence(), ['ADD one', 'ADD two'])
  assert.deepEqual(
    { ...first?.env, PWD: undefined, _: undefined, SHLVL: undefined, OLDPWD: undefined },
    {
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: attachment.sandboxId,
      CNI_NETNS: attachment.netnsPath,
      CNI_IFNAME: 'eth0',
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=${attachment.sandboxId};K8S_POD_UID=u-1`,
      CNI_PATH: fake.binDir,
      PWD: undefined,
      _: undefined,
      SHLVL: undefined,
      OLDPWD: undefined,
    },
  )
  assert.deepEqual(first?.config, { type: 'one', name: 'fake', cniVersion: '1.0.0' })
  assert.deepEqual(second?.config, { type: 'two', name: 'fake', cniVersion: '1.0.0', prevResult: result.raw })
})

test('detach() runs DEL in reverse with the final result, once', async (t) => {
  const { fake, open, pod } = setup(t, { one: {}, two: {} })
  const network = open()
  const attachment = pod()
  const result = await network.attach(attachment)
  assert.deepEqual(network.attached(), [attachment.sandboxId])
  assert.deepEqual(await network.attachmentOf(attachment.sandboxId), attachment)
  await network.detach(attachment)
  await network.detach(attachment, result)
  assert.deepEqual(fake.sequence().slice(2), ['DEL two', 'DEL one'])
  for (const call of fake.calls().slice(2)) assert.deepEqual(call.config.prevResult, result.raw)
  assert.deepEqual(readdirSync(fake.cacheDir), [])
  assert.equal(await network.attachmentOf(attachment.sandboxId), undefined)
})

test('detach() of a sandbox that was never attached runs nothing', async (t) => {
  const { fake, open, pod } = setup(t, { one: {} })
  await open().detach(pod())
  assert.deepEqual(fake.sequence(), [])
})

test('plugins get as runtimeConfig what they declare a capability for, and nothing else', async (t) => {
  const { fake, open, pod } = setup(t, { one: {}, two: {} })
  const capabilities = { portMappings: true, dns: true, bandwidth: true, 'io.kubernetes.cri.pod-annotations': true }
  fake.config('10-fake.conflist', {
    ...chain(),
    plugins: [
      { type: 'one', capabilities: { ...capabilities, dns: false, mac: true, ips: true } },
      { type: 'two', capabilities },
    ],
  })
  const annotations = { 'kubernetes.io/egress-bandwidth': '1M', other: 'x' }
  const dns = { servers: ['10.0.0.1'], searches: ['svc'], options: ['ndots:5'] }
  const portMappings = [
    { hostPort: 8080, containerPort: 80, protocol: 'tcp', hostIP: '127.0.0.1' },
    { hostPort: 0, containerPort: 81, protocol: 'tcp' },
  ] as const
  const attachment = pod({ annotations, dns, portMappings })
  const network = open()
  await network.attach(attachment)
  await network.detach(attachment)
  const [one, two, delTwo, delOne] = fake.calls().map(({ config }) => config.runtimeConfig)
  const expected = {
    portMappings: [portMappings[0]],
    bandwidth: { egressRate: 1_000_000, egressBurst: 4_294_967_295 },
    'io.kubernetes.cri.pod-annotations': annotations,
  }
  assert.deepEqual(one, expected)
  assert.deepEqual(two, { ...expected, dns })
  assert.deepEqual([delOne, delTwo], [one, two])
})

test('portmap and bandwidth are not started for a pod that does not use them', async (t) => {
  const { fake, open, pod } = setup(t, { main: {}, portmap: {}, bandwidth: {} })
  const run = async (plugins: object[], fields: Partial<PodAttachment>): Promise<string> => {
    fake.config('10-fake.conflist', { ...chain(), plugins: [{ type: 'main' }, ...plugins] })
    const before = fake.sequence().length
    const attachment = pod(fields)
    const network = open()
    await network.attach(attachment)
    await network.detach(attachment)
    return fake.sequence().slice(before).join(', ')
  }
  const portmap = { type: 'portmap', capabilities: { portMappings: true } }
  const bandwidth = { type: 'bandwidth', capabilities: { bandwidth: true } }
  const portMappings = [{ hostPort: 1, containerPort: 1, protocol: 'tcp' }] as const
  assert.equal(await run([portmap, bandwidth], {}), 'ADD main, DEL main')
  assert.equal(await run([portmap, bandwidth], { portMappings }), 'ADD main, ADD portmap, DEL portmap, DEL main')
  assert.equal(
    await run([portmap, bandwidth], { annotations: { 'kubernetes.io/ingress-bandwidth': '1M' } }),
    'ADD main, ADD bandwidth, DEL bandwidth, DEL main',
  )
  assert.equal(await run([{ ...bandwidth, egressRate: 5 }], {}), 'ADD main, ADD bandwidth, DEL bandwidth, DEL main')
  assert.equal(await run([{ type: 'portmap' }], {}), 'ADD main, ADD portmap, DEL portmap, DEL main')
})

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

test('detach() works with an empty CNI_NETNS when the network namespace is gone', async (t) => {
  const { fake, open, pod } = setup(t, { one: {} })
  const network = open()
  const [unpinned, leftover] = [pod(), pod()]
  for (const attachment of [unpinned, leftover]) {
    await network.attach(attachment)
    linux.unpinNamespace(attachment.netnsPath)
  }
  // After a reboot the file may be there, but no namespace is behind it.
  writeFileSync(leftover.netnsPath, '')
  await network.detach(unpinned)
  await network.detach(leftover)
  assert.deepEqual(
    fake
      .calls()
      .filter(({ verb }) => verb === 'DEL')
      .map(({ env }) => env.CNI_NETNS),
    ['', ''],
  )
})

test('detach() uses the configuration of the time of attach, whatever became of it, also after a restart', async (t) => {
  const { fake, open, pod } = setup(t, { one: {}, two: {} })
  const attachment = pod()
  const result = await open().attach(attachment)
  rmSync(fake.configDir, { recursive: true })
  mkdirSync(fake.configDir)
  fake.config('10-other.conflist', { ...chain('two'), name: 'other', cniVersion: '0.4.0' })
  await open().detach({ ...attachment, name: 'ignored' })
  const deletes = fake.calls().slice(2)
  assert.deepEqual(
    deletes.map(({ name, config }) => [name, config.name, config.cniVersion]),
    [
      ['two', 'fake', '1.0.0'],
      ['one', 'fake', '1.0.0'],
    ],
  )
  assert.deepEqual(deletes[0]?.config.prevResult, result.raw)
  assert.match(deletes[0]?.env.CNI_ARGS ?? '', /K8S_POD_NAME=web/)
})

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

test('attach() of a sandbox that is on record deletes before it adds', async (t) => {
  const { fake, open, pod } = setup(t, { one: {} })
  const attachment = pod()
  await open().attach(attachment)
  await open().attach(attachment)
  assert.deepEqual(fake.sequence(), ['ADD one', 'DEL one', 'ADD one'])
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

test('check() runs CHECK with the result, unless the network does not know or want it', async (t) => {
  const { fake, open, pod } = setup(t, {
    one: {
      CHECK: [
        { do: 'result', result: undefined },
        { do: 'error', code: 1, msg: 'link is gone' },
      ],
    },
  })
  const network = open()
  const attachment = pod()
  assert.ok(isKind(await failure(network.check(attachment)), 'not-found'))
  const result = await network.attach(attachment)
  await network.check(attachment)
  assert.deepEqual(fake.calls().at(-1)?.config.prevResult, result.raw)
  assert.match((await failure(network.check(attachment))).message, /cannot CHECK.*link is gone/)
  for (const fields of [{ cniVersion: '0.3.1' }, { disableCheck: true }]) {
    fake.config('10-fake.conflist', { ...chain('one'), ...fields })
    const fresh = open()
    const other = pod()
    await fresh.attach(other)
    const before = fake.sequence().length
    await fresh.check(other)
    assert.equal(fake.sequence().length, before)
  }
})

test('DEL of a network before 0.4.0 is given no result, as those plugins do not know it', async (t) => {
  const { fake, open, pod } = setup(t, { one: {} })
  fake.config('10-fake.conflist', { ...chain('one'), cniVersion: '0.3.1' })
  const network = open()
  const attachment = pod()
  await network.attach(attachment)
  await network.detach(attachment)
  assert.equal('prevResult' in (fake.calls()[1]?.config ?? {}), false)
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

test('operations of one sandbox wait for each other, those of others do not', async (t) => {
  const slow = { ADD: [{ do: 'hang' }] } satisfies FakeScenario
  const { fake, open, pod } = setup(t, { one: slow })
  const timeoutMs: Partial<Record<CniVerb, number>> = { ADD: 1500 }
  const network = open({ timeoutMs })
  const attachment = pod()
  const attaching = failure(network.attach(attachment))
  while (fake.children().length === 0) await new Promise((resolve) => setTimeout(resolve, 20))
  fake.plugin('one')
  const other = await network.attach(pod())
  assert.equal(other.ips.length, 1)
  assert.deepEqual(fake.sequence(), ['ADD one', 'ADD one'])
  await network.detach(attachment)
  assert.ok(isKind(await attaching, 'deadline-exceeded'))
  assert.ok(existsSync(fake.cacheDir))
})
