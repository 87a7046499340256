import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { linux } from '#linux/linux.ts'
import { isKind } from '#proto/errors.ts'
import type { CniVerb } from './cni-plugin.ts'
import type { PodAttachment } from './pod-network.ts'
import { chain, type FakeScenario } from './testing/fake-network.ts'
import { failure, setup } from './testing/network-setup.ts'

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
  await network.detach(attachment)
  await network.detach(attachment, result)
  assert.deepEqual(fake.sequence().slice(2), ['DEL two', 'DEL one'])
  for (const call of fake.calls().slice(2)) assert.deepEqual(call.config.prevResult, result.raw)
  assert.deepEqual(readdirSync(fake.cacheDir), [])
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
      { type: 'two', capabilities: { ...capabilities, cgroupPath: true } },
    ],
  })
  const annotations = { 'kubernetes.io/egress-bandwidth': '1M', other: 'x' }
  const dns = { servers: ['10.0.0.1'], searches: ['svc'], options: ['ndots:5'] }
  const portMappings = [
    { hostPort: 8080, containerPort: 80, protocol: 'tcp', hostIP: '127.0.0.1' },
    { hostPort: 0, containerPort: 81, protocol: 'tcp' },
  ] as const
  const attachment = pod({ annotations, dns, portMappings, cgroupPath: '/kubepods/pod1' })
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
  assert.deepEqual(two, { ...expected, dns, cgroupPath: '/kubepods/pod1' })
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

test('attach() of a sandbox that is on record deletes before it adds', async (t) => {
  const { fake, open, pod } = setup(t, { one: {} })
  const attachment = pod()
  await open().attach(attachment)
  await open().attach(attachment)
  assert.deepEqual(fake.sequence(), ['ADD one', 'DEL one', 'ADD one'])
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
