/** The pod network beyond the ordinary: two address families, host ports of our own, and plugins and files that misbehave. */

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { chmod, mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { type DeepPartial, NamespaceMode, type PodSandboxConfig, Protocol } from '#proto/generated/api.ts'
import { CriError } from './cri-client.ts'
import { cricketProgram, writeCricketConfig } from './cricket.ts'
import { useWorld, type World } from './harness.ts'
import { processesOf } from './leftovers.ts'
import { containerConfig, podConfig, removeAllPods, removePod, startPod, until } from './pods.ts'
import { freePort } from './registry.ts'
import { Runtime } from './runtime.ts'

const IDLE = ['sleep', '1000']
const HTTPD = ['sh', '-c', 'mkdir /www; echo served > /www/index.html; exec httpd -f -p 8080 -h /www']

const failsWith = (code: status) => (error: unknown) => error instanceof CriError && error.code === code

/**
 * A chained plugin that obeys files beside it: `fail-VERB` makes that verb fail, `hold-VERB` makes it wait for the file to
 * go when the pod's name is the file's content. `calls` lists what it was asked.
 */
const OBEDIENT = `
import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
const { CNI_COMMAND: verb, CNI_ARGS: args = '', CNI_CONTAINERID: id } = process.env
const file = (name) => join(import.meta.dirname, name)
const { prevResult, cniVersion } = JSON.parse(readFileSync(0, 'utf8'))
appendFileSync(file('calls'), verb + ' ' + id + '\\n')
const isHeld = () => {
  try {
    return args.includes('K8S_POD_NAME=' + readFileSync(file('hold-' + verb), 'utf8') + ';')
  } catch {
    return false
  }
}
while (isHeld()) await new Promise((resolve) => setTimeout(resolve, 20))
if (existsSync(file('fail-' + verb))) {
  console.log(JSON.stringify({ cniVersion, code: 50, msg: 'told to fail' }))
  process.exitCode = 1
} else if (verb === 'ADD') console.log(JSON.stringify(prevResult))
`

/** How long new pods wait for a network; long enough for a slow machine to put one there. */
const WAIT_SECONDS = 5

interface Network {
  readonly world: World
  /** A file beside the plugin. */
  file(name: string): string
  /** What the plugin was asked, `ADD <id>` and so on. */
  calls(): string[]
  /** The network's configuration, with these fields instead. */
  write(name: string, fields?: object): void
  addresses(): string[]
}

/** A world whose network is dual stack and has no plugin for host ports, but one that obeys. */
function useNetwork(): Network {
  const world = useWorld()
  const file = (name: string) => world.site.path('plugins', name)
  const network: Network = {
    world,
    file,
    calls: () => (existsSync(file('calls')) ? readFileSync(file('calls'), 'utf8').split('\n').filter(Boolean) : []),
    write(name, fields = {}) {
      writeFileSync(join(world.site.network.configDir, name), JSON.stringify({ ...networkConfig(world), ...fields }))
    },
    addresses() {
      const dir = join(world.site.network.ipamDir, world.site.network.name)
      return existsSync(dir) ? readdirSync(dir).filter((name) => /^[0-9a-f.:]+$/.test(name)) : []
    },
  }
  before(async () => {
    const { site, registry, runtime } = world
    await mkdir(site.path('plugins'))
    await writeFile(file('obedient.mjs'), OBEDIENT)
    await writeFile(file('obedient'), `#!/bin/sh\nexec '${process.execPath}' '${file('obedient.mjs')}'\n`)
    await chmod(file('obedient'), 0o755)
    network.write('10-pods.conflist')
    await runtime.stop()
    const { configDir, binDirs } = site.network
    await writeCricketConfig(site, {
      insecureRegistries: [registry.host],
      sections: {
        network: {
          configDir,
          binDirs: [site.path('plugins'), ...binDirs],
          confTemplate: site.path('template'),
          waitSeconds: WAIT_SECONDS,
        },
      },
    })
    await runtime.start()
  })
  return network
}

const gatewayV6 = ({ site }: World): string => `fd00:${site.id.slice(0, 4)}:${site.id.slice(2)}::1`

function networkConfig(world: World) {
  const { name, bridge, ipamDir, prefix } = world.site.network
  const ranges = [[{ subnet: `${prefix}.0/24` }], [{ subnet: gatewayV6(world).replace(/1$/, '/64') }]]
  const routes = [{ dst: '0.0.0.0/0' }, { dst: '::/0' }]
  const ipam = { type: 'host-local', dataDir: ipamDir, ranges, routes }
  const main = { type: 'bridge', bridge, isGateway: true, hairpinMode: true, ipam }
  return { cniVersion: '1.0.0', name, plugins: [main, { type: 'obedient' }] }
}

const startServer = async (world: World, name: string, overrides: DeepPartial<PodSandboxConfig> = {}) =>
  startPod(world.cri, await podConfig(world.site, name, overrides), containerConfig('main', world.image, HTTPD))

/** What a server says, once it says anything. */
const answerOf = (url: string): Promise<string> =>
  until(`${url} answers`, 5000, async () => {
    const response = await fetch(url, { signal: AbortSignal.timeout(1000) }).catch(() => undefined)
    return response?.text()
  })

const refuses = (url: string) => assert.rejects(fetch(url, { signal: AbortSignal.timeout(1000) }), url)

async function networkReady({ cri }: World): Promise<{ status: boolean; message: string }> {
  const answer = await cri.runtime.status({})
  const found = answer.status?.conditions.find(({ type }) => type === 'NetworkReady')
  return { status: found?.status ?? false, message: found?.message ?? '' }
}

const untilNetworkReady = (world: World, want: boolean): Promise<string> =>
  until(`NetworkReady is ${want}`, 10_000, async () => {
    const { status: is, message } = await networkReady(world)
    return is === want ? message : undefined
  })

describe('a network of two address families', () => {
  const { world } = useNetwork()

  it('gives a pod an address of each, and both are reached', async () => {
    const pod = await startServer(world, 'both')
    const { status: found } = await world.cri.runtime.podSandboxStatus({ podSandboxId: pod.sandboxId })
    const { ip = '', additionalIps = [] } = found?.network ?? {}
    assert.ok(ip.startsWith(`${world.site.network.prefix}.`), ip)
    assert.equal(additionalIps.length, 1)
    assert.match(additionalIps[0]?.ip ?? '', /^fd00:/)
    assert.equal(await answerOf(`http://${ip}:8080/`), 'served\n')
    assert.equal(await answerOf(`http://[${additionalIps[0]?.ip}]:8080/`), 'served\n')
    const hosts = await world.cri.runtime.execSync({
      containerId: pod.containerId,
      cmd: ['cat', '/etc/hosts'],
      timeout: 5n,
    })
    assert.ok(hosts.stdout.toString().includes(ip))
    await removePod(world.cri, pod.sandboxId)
    await world.assertNothingLeft()
  })
})

const withoutNft = existsSync('/usr/sbin/nft') ? false : 'host lacks nft'

describe('host ports without a plugin for them', { skip: withoutNft }, () => {
  const network = useNetwork()
  const { world } = network

  it('lead to the pod on the addresses that were asked for, across a crash of the daemon, until it stops', async () => {
    const [everywhere, loopback] = [await freePort(), await freePort()]
    const portMappings = [
      { protocol: Protocol.TCP, containerPort: 8080, hostPort: everywhere },
      { protocol: Protocol.TCP, containerPort: 8080, hostPort: loopback, hostIp: '127.0.0.1' },
      { protocol: Protocol.SCTP, containerPort: 9, hostPort: everywhere },
    ]
    const gateway = `${world.site.network.prefix}.1`
    const pod = await startServer(world, 'server', { portMappings })
    for (const host of ['127.0.0.1', gateway, `[${gatewayV6(world)}]`]) {
      assert.equal(await answerOf(`http://${host}:${everywhere}/`), 'served\n')
    }
    assert.equal(await answerOf(`http://127.0.0.1:${loopback}/`), 'served\n')
    await refuses(`http://${gateway}:${loopback}/`)
    // From the pod itself, and from its neighbour.
    const neighbour = await startPod(
      world.cri,
      await podConfig(world.site, 'neighbour'),
      containerConfig('main', world.image, IDLE),
    )
    for (const { containerId } of [pod, neighbour]) {
      const cmd = ['wget', '-q', '-O', '-', `http://${gateway}:${everywhere}/`]
      const { stdout, stderr } = await world.cri.runtime.execSync({ containerId, cmd, timeout: 10n })
      assert.equal(
        stdout.toString(),
        'served\n',
        `from ${containerId === pod.containerId ? 'itself' : 'its neighbour'}: ${stderr}`,
      )
    }

    await world.runtime.kill()
    assert.equal(await answerOf(`http://127.0.0.1:${everywhere}/`), 'served\n')
    await world.runtime.start()
    const addresses = network.addresses().length
    const taken = await podConfig(world.site, 'second', { portMappings })
    await assert.rejects(world.cri.runtime.runPodSandbox({ config: taken }), failsWith(status.FAILED_PRECONDITION))
    assert.equal(network.addresses().length, addresses, 'a refused pod gets no address')

    await world.cri.runtime.stopPodSandbox({ podSandboxId: pod.sandboxId })
    await refuses(`http://127.0.0.1:${everywhere}/`)
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: taken })
    for (const id of [pod.sandboxId, neighbour.sandboxId, podSandboxId]) await removePod(world.cri, id)
    await world.assertNothingLeft()
  })

  it('are taken away when their pod was never finished', async () => {
    const portMappings = [{ containerPort: 80, hostPort: await freePort() }]
    writeFileSync(network.file('hold-ADD'), 'unfinished')
    const config = await podConfig(world.site, 'unfinished', { portMappings })
    const asked = network.calls().length
    const lost = world.cri.runtime.runPodSandbox({ config }).catch(() => {})
    await until('the plugin runs', 5000, async () => network.calls().length > asked || undefined)
    await world.runtime.kill()
    await lost
    await world.runtime.start()
    // The plugin of the daemon that died must not go on: it could take an address when nobody gives it back any more.
    assert.deepEqual(
      (await processesOf(world.site, [])).filter(({ name }) => name.includes('obedient')),
      [],
    )
    assert.deepEqual((await world.cri.runtime.listPodSandbox({})).items, [])
    await until('no address is left', 5000, async () => network.addresses().length === 0 || undefined)
    rmSync(network.file('hold-ADD'))
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config })
    await removePod(world.cri, podSandboxId)
    await world.assertNothingLeft()
  })
})

describe('a daemon killed while it makes or ends a network', { skip: withoutNft }, () => {
  const network = useNetwork()
  const { world } = network

  async function startWith(crashPoint?: string): Promise<Runtime> {
    const program = cricketProgram(world.site)
    const runtime = new Runtime({
      ...program,
      env: { ...program.env, ...(crashPoint && { CRICKET_CRASH_POINT: crashPoint }) },
    })
    await runtime.start()
    return runtime
  }

  const RUN = ['network', 'network add', 'network result', 'host ports', 'publish'].map(
    (stage) => `RunPodSandbox/${stage}`,
  )
  const STOP = ['network', 'namespaces', 'publish'].map((stage) => `StopPodSandbox/${stage}`)
  for (const point of [...RUN, ...STOP]) {
    it(`at ${point} leaves neither address nor rule, and the host port is free`, async () => {
      if (world.runtime.isRunning) await world.runtime.stop()
      const dying = await startWith(point)
      const portMappings = [{ containerPort: 80, hostPort: await freePort() }]
      const config = await podConfig(world.site, 'crashed', { portMappings })
      const lost = dying.cri.runtime
        .runPodSandbox({ config })
        .then(({ podSandboxId }) => dying.cri.runtime.stopPodSandbox({ podSandboxId }))
      await assert.rejects(lost)
      await until('the daemon has died', 5000, async () => !dying.isRunning || undefined)
      await world.runtime.start()
      if (point.startsWith('Stop')) await removeAllPods(world.cri)
      await world.assertNothingLeft()
      const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config })
      await removePod(world.cri, podSandboxId)
      await world.assertNothingLeft()
    })
  }
})

describe('a network whose plugins misbehave', () => {
  const network = useNetwork()
  const { world } = network

  it('keeps one pod waiting, and no other; its ADD outlives the deadline of who asked for it', async () => {
    writeFileSync(network.file('hold-ADD'), 'slow')
    const slow = await podConfig(world.site, 'slow')
    const early = world.cri.runtime.runPodSandbox({ config: slow }, { timeoutMs: 1000 })
    await assert.rejects(early, failsWith(status.DEADLINE_EXCEEDED))
    const { podSandboxId: other } = await world.cri.runtime.runPodSandbox({
      config: await podConfig(world.site, 'other'),
    })
    await world.cri.runtime.stopPodSandbox({ podSandboxId: other })
    await world.cri.runtime.removePodSandbox({ podSandboxId: other })
    assert.equal((await networkReady(world)).status, true)
    rmSync(network.file('hold-ADD'))
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: slow })
    assert.equal(network.calls().filter((call) => call === `ADD ${podSandboxId}`).length, 1)
    await removePod(world.cri, podSandboxId)
    await world.assertNothingLeft()
  })

  it('does not keep a pod that it cannot give back, and gets its address back when it can', async () => {
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: await podConfig(world.site, 'owed') })
    writeFileSync(network.file('fail-DEL'), '')
    await assert.rejects(world.cri.runtime.stopPodSandbox({ podSandboxId }), /told to fail/)
    await until('StopPodSandbox gives up on the network', 20_000, () =>
      world.cri.runtime.stopPodSandbox({ podSandboxId }).then(
        () => true,
        () => undefined,
      ),
    )
    await world.cri.runtime.removePodSandbox({ podSandboxId })
    assert.deepEqual((await world.cri.runtime.listPodSandbox({})).items, [])
    assert.equal(network.addresses().length, 2, 'the addresses are not lost')
    const { info } = await world.cri.runtime.status({ verbose: true })
    const [debt] = JSON.parse(info.networkDebts ?? '[]')
    assert.equal(debt.sandboxId, podSandboxId)
    assert.match(debt.lastError, /told to fail/)

    await world.runtime.kill()
    await world.runtime.start()
    rmSync(network.file('fail-DEL'))
    await until('the addresses are free', 15_000, async () => network.addresses().length === 0 || undefined)
    await world.assertNothingLeft()
  })

  it('removes a pod that nobody could stop', async () => {
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: await podConfig(world.site, 'removed') })
    writeFileSync(network.file('fail-DEL'), '')
    await world.cri.runtime.removePodSandbox({ podSandboxId })
    rmSync(network.file('fail-DEL'))
    await until('the addresses are free', 15_000, async () => network.addresses().length === 0 || undefined)
    await world.assertNothingLeft()
  })

  it('keeps one removal waiting for a while, and no other', async () => {
    const run = async (name: string) =>
      (await world.cri.runtime.runPodSandbox({ config: await podConfig(world.site, name) })).podSandboxId
    const [held, other] = [await run('held'), await run('unheld')]
    writeFileSync(network.file('hold-DEL'), 'held')
    const removing = world.cri.runtime.removePodSandbox({ podSandboxId: held }, { timeoutMs: 60_000 })
    await until('the plugin runs', 5000, async () => network.calls().includes(`DEL ${held}`) || undefined)
    await removePod(world.cri, other)
    await removing
    assert.deepEqual((await world.cri.runtime.listPodSandbox({})).items, [])
    assert.equal(network.addresses().length, 2, 'the addresses are not lost')
    rmSync(network.file('hold-DEL'))
    await until('the addresses are free', 15_000, async () => network.addresses().length === 0 || undefined)
    await world.assertNothingLeft()
  })

  it('is not ready while a plugin of CNI 1.1 says so', async () => {
    writeFileSync(network.file('fail-STATUS'), '')
    network.write('05-status.conflist', { cniVersion: '1.1.0', plugins: [{ type: 'obedient' }] })
    assert.match(
      await until('the plugin was asked', 10_000, async () => {
        const { status: is, message } = await networkReady(world)
        return !is && message.includes('told to fail') ? message : undefined
      }),
      /cannot STATUS/,
    )
    rmSync(network.file('fail-STATUS'))
    await untilNetworkReady(world, true)
    rmSync(join(world.site.network.configDir, '05-status.conflist'))
    await until('the other network is back', 10_000, async () => {
      const asked = network.calls().filter((call) => call.startsWith('STATUS')).length
      return asked > 0 && (await networkReady(world)).status ? true : undefined
    })
  })
})

describe('the directory of network configurations', () => {
  const network = useNetwork()
  const { world } = network

  it('may be taken away and replaced while the daemon runs', async () => {
    const { configDir } = world.site.network
    await rename(configDir, `${configDir}.old`)
    assert.match(await untilNetworkReady(world, false), /no usable CNI network configuration/)
    const config = await podConfig(world.site, 'early')
    await assert.rejects(world.cri.runtime.runPodSandbox({ config }), failsWith(status.FAILED_PRECONDITION))
    const onHost = await podConfig(world.site, 'on-host', {
      linux: { securityContext: { namespaceOptions: { network: NamespaceMode.NODE, pid: NamespaceMode.CONTAINER } } },
    })
    const host = await world.cri.runtime.runPodSandbox({ config: onHost })
    await removePod(world.cri, host.podSandboxId)

    // One who comes before the network is there waits for it, and nobody else does.
    const waiting = world.cri.runtime.runPodSandbox({ config })
    await until('somebody waits', 5000, async () => {
      const { info } = await world.cri.runtime.status({ verbose: true })
      return info.operations?.includes('network ready') || undefined
    })
    assert.equal((await networkReady(world)).status, false)
    await mkdir(configDir)
    network.write('20-new.conflist')
    const { podSandboxId } = await waiting
    await untilNetworkReady(world, true)
    rmSync(join(configDir, '20-new.conflist'))
    await untilNetworkReady(world, false)
    // It is detached with what it was attached with.
    await removePod(world.cri, podSandboxId)
    await world.assertNothingLeft()
    network.write('20-new.conflist')
    await untilNetworkReady(world, true)
  })

  it('gets a configuration from the template once the kubelet tells the ranges of the node', async () => {
    const { configDir } = world.site.network
    writeFileSync(
      world.site.path('template'),
      JSON.stringify({
        cniVersion: '1.0.0',
        name: 'made',
        plugins: [{ type: 'obedient', ranges: '$POD_CIDR_RANGES' }],
      }),
    )
    const update = (podCidr: string) =>
      world.cri.runtime.updateRuntimeConfig({ runtimeConfig: { networkConfig: { podCidr } } })
    await assert.rejects(update('10.0.0.0/64'), failsWith(status.INVALID_ARGUMENT))
    await update('')
    assert.deepEqual(readdirSync(configDir), ['20-new.conflist'])
    await update('10.9.0.0/24,fd00:9::/64')
    const { plugins } = JSON.parse(readFileSync(join(configDir, '99-cricket.conflist'), 'utf8'))
    assert.deepEqual(plugins[0].ranges, [[{ subnet: '10.9.0.0/24' }], [{ subnet: 'fd00:9::/64' }]])
  })
})
