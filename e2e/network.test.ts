/** The pod network beyond the ordinary: two address families, host ports of our own, and plugins and files that misbehave. */

import assert from 'node:assert/strict'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { Protocol } from '#proto/generated/api.ts'
import { failsWith } from './cri-client.ts'
import { cricketProgram } from './cricket.ts'
import { processesOf } from './leftovers.ts'
import {
  answerOf,
  gatewayV6,
  networkReady,
  refuses,
  startServer,
  untilNetworkReady,
  useNetwork,
} from './obedient-network.ts'
import { containerConfig, podConfig, removeAllPods, removePod, startPod, until } from './pods.ts'
import { freePort } from './registry.ts'
import { Runtime } from './runtime.ts'

const IDLE = ['sleep', '1000']

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
