/**
 * The pod network with the reference plugins: bridge, host-local, portmap. The "host" of these tests is a network namespace
 * of their own, so that bridges, iptables chains and sysctls need no cleaning and tests of others are not disturbed.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { linux } from '#linux/linux.ts'
import { silentLog } from '#proto/log.ts'
import { openPodNetwork, type PodAttachment, type PodNetwork } from './pod-network.ts'

const PLUGIN_DIRS = ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni']
const NSENTER = '/usr/bin/nsenter'

const binDir = PLUGIN_DIRS.find((dir) => existsSync(join(dir, 'bridge')))
const lacks = (program: string): boolean =>
  !['/usr/sbin', '/usr/bin', '/sbin', '/bin'].some((dir) => existsSync(join(dir, program)))
const missing = [...(binDir === undefined ? ['CNI plugins'] : []), ...['nsenter', 'ip', 'iptables'].filter(lacks)]
const skip = missing.length > 0 ? `host lacks ${missing.join(', ')}` : false

interface RealHost {
  network: PodNetwork
  addresses(): string[]
  pod(id: string, fields?: Partial<PodAttachment>): PodAttachment
  /** Runs a program in the network namespace at this path, the "host's" when not given. */
  run(args: string[], netns?: string): string
  start(script: string, netns?: string): ChildProcess
}

const CHAIN = (dir: string, more: object[] = []) => ({
  cniVersion: '1.0.0',
  name: 'testnet',
  plugins: [
    {
      type: 'bridge',
      bridge: 'crt0',
      isGateway: true,
      ipMasq: true,
      ipam: {
        type: 'host-local',
        dataDir: join(dir, 'ipam'),
        ranges: [[{ subnet: '10.211.0.0/24' }], [{ subnet: 'fd42:211::/64' }]],
        routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
      },
    },
    { type: 'portmap', capabilities: { portMappings: true } },
    ...more,
  ],
})

const realHost = (t: TestContext, more: object[] = []): RealHost => {
  const dir = mkdtempSync(join(tmpdir(), 'cricket-real-cni-'))
  const undos: (() => void)[] = [() => rmSync(dir, { recursive: true, force: true })]
  t.after(() => {
    for (const undo of undos.splice(0).reverse()) undo()
  })
  const namespace = (path: string): string => {
    linux.createNamespaces({ kinds: ['net'], pins: { net: path }, inside: () => linux.setLinkUp('lo') })
    undos.push(() => linux.unpinNamespace(path))
    return path
  }
  const host = namespace(join(dir, 'host'))
  const configDir = join(dir, 'net.d')
  mkdirSync(configDir)
  writeFileSync(join(configDir, '10-test.conflist'), JSON.stringify(CHAIN(dir, more)))
  const network = openPodNetwork({
    configDir,
    binDirs: [binDir ?? ''],
    cacheDir: join(dir, 'cache'),
    log: silentLog,
    linux: {
      ...linux,
      runCommand: (path, args, options) => linux.runCommand(NSENTER, [`--net=${host}`, '--', path, ...args], options),
    },
  })
  undos.push(() => network.close())
  return {
    network,
    addresses() {
      const ipam = join(dir, 'ipam', 'testnet')
      return existsSync(ipam) ? readdirSync(ipam).filter((name) => /^[0-9a-f.:]+$/.test(name) && name !== 'lock') : []
    },
    pod: (sandboxId, fields = {}) => ({
      sandboxId,
      name: sandboxId,
      namespace: 'default',
      uid: sandboxId,
      netnsPath: namespace(join(dir, sandboxId)),
      portMappings: [],
      annotations: {},
      ...fields,
    }),
    run: (args, netns = host) =>
      execFileSync(NSENTER, [`--net=${netns}`, '--', ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }),
    start(script, netns = host) {
      const child = spawn(NSENTER, [`--net=${netns}`, '--', process.execPath, '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      undos.push(() => child.kill('SIGKILL'))
      return child
    },
  }
}

test('a pod gets an IPv4 and an IPv6 address on eth0, and gives them back', { skip }, async (t) => {
  const { network, pod, run, addresses } = realHost(t)
  const attachment = pod('pod1')
  const result = await network.attach(attachment)
  assert.deepEqual(result.ips, ['10.211.0.2', 'fd42:211::2'])
  assert.deepEqual(
    result.interfaces.filter(({ sandbox }) => sandbox !== undefined).map(({ name }) => name),
    ['eth0'],
  )
  const shown = run(['ip', '-o', 'address', 'show', 'dev', 'eth0'], attachment.netnsPath)
  for (const ip of result.ips) assert.ok(shown.includes(`${ip}/`), shown)
  assert.match(run(['iptables-save', '-t', 'nat']), /10\.211\.0\.2/)
  assert.equal(addresses().length, 2)
  await network.check(attachment)
  await network.detach(attachment)
  assert.deepEqual(addresses(), [])
  assert.doesNotMatch(run(['ip', '-o', 'link'], attachment.netnsPath), /eth0/)
  assert.doesNotMatch(run(['iptables-save', '-t', 'nat']), /10\.211\.0\.2/)
  await network.detach(attachment)
})

test('a host port leads to the pod until the pod goes', { skip }, async (t) => {
  const { network, pod, run, start } = realHost(t)
  const attachment = pod('pod1', { portMappings: [{ hostPort: 18080, containerPort: 80, protocol: 'tcp' }] })
  await network.attach(attachment)
  const server = start(
    'require("node:net").createServer((s) => s.end("from the pod")).listen(80, () => console.log("up"))',
    attachment.netnsPath,
  )
  assert.ok(server.stdout)
  await once(server.stdout, 'data')
  const script = 'require("node:net").connect(18080, "10.211.0.1").pipe(process.stdout)'
  assert.equal(run([process.execPath, '-e', script]), 'from the pod')
  assert.match(run(['iptables-save', '-t', 'nat']), /18080/)
  await network.detach(attachment)
  assert.doesNotMatch(run(['iptables-save', '-t', 'nat']), /18080/)
})

test('check() finds a pod whose interface is gone', { skip }, async (t) => {
  const { network, pod, run } = realHost(t)
  const attachment = pod('pod1')
  await network.attach(attachment)
  run(['ip', 'link', 'delete', 'eth0'], attachment.netnsPath)
  await assert.rejects(network.check(attachment), { kind: 'internal', message: /"bridge".*CHECK/ })
  await network.detach(attachment)
})

test('addresses come back after the network namespace is gone', { skip }, async (t) => {
  const { network, pod, addresses } = realHost(t)
  const attachment = pod('pod1')
  await network.attach(attachment)
  linux.unpinNamespace(attachment.netnsPath)
  await network.detach(attachment)
  assert.deepEqual(addresses(), [])
})

test('a plugin late in the chain that fails leaves no address, link or rule behind', { skip }, async (t) => {
  // tuning refuses a sysctl that does not exist, after bridge and portmap have done their work.
  const { network, pod, run, addresses } = realHost(t, [{ type: 'tuning', sysctl: { 'net.ipv4.no_such_sysctl': '1' } }])
  const attachment = pod('pod1', { portMappings: [{ hostPort: 18081, containerPort: 80, protocol: 'udp' }] })
  await assert.rejects(network.attach(attachment), { kind: 'internal', message: /"tuning".*no_such_sysctl/ })
  assert.deepEqual(addresses(), [])
  assert.deepEqual(network.attached(), [])
  assert.doesNotMatch(run(['ip', '-o', 'link'], attachment.netnsPath), /eth0/)
  assert.doesNotMatch(run(['iptables-save', '-t', 'nat']), /18081|10\.211\.0\.2/)
})

test('pods that are attached at the same time do not get into each other’s way', { skip }, async (t) => {
  const { network, pod, addresses } = realHost(t)
  const pods = Array.from({ length: 8 }, (_, n) => pod(`pod${n}`))
  const results = await Promise.all(pods.map((attachment) => network.attach(attachment)))
  assert.equal(new Set(results.flatMap(({ ips }) => ips)).size, 16)
  await Promise.all(pods.map((attachment) => network.detach(attachment)))
  assert.deepEqual(addresses(), [])
})
