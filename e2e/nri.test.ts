/** Plugins that see and change what happens to pods and containers (Node Resource Interface). */

import assert from 'node:assert/strict'
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { resolve } from 'node:path'
import { afterEach, describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { isCgroupV2, kernelLimits } from './cgroup-files.ts'
import { failsWith } from './cri-client.ts'
import { writeCricketConfig } from './cricket.ts'
import { useWorld } from './harness.ts'
import { type Behaviour, NriPlugin } from './nri-plugin.ts'
import { isPeer } from './peer.ts'
import {
  containerConfig,
  containerStatus,
  createContainer,
  podConfig,
  readLog,
  removePod,
  startPod,
  until,
  untilExited,
} from './pods.ts'

const IDLE = ['sleep', '1000']
/** Ends when it is asked to. */
const POLITE = ['sh', '-c', 'trap "exit 0" TERM; sleep 1000 & wait']
const MIB = 1024n * 1024n
const LONG_MS = 60_000

describe('plugins', { skip: isPeer && 'ours' }, () => {
  /** Long for who answers, short for who does not. */
  const nri = {
    requestTimeoutSeconds: 5,
    registrationTimeoutSeconds: 20,
    defaultValidator: { enabled: true, rejectSysctls: true },
  }
  const world = useWorld({ config: { sections: { nri } } })
  const socket = () => world.site.path('state', 'nri', 'nri.sock')
  const plugins: NriPlugin[] = []
  const plugged = async (name: string, behaviour: Behaviour = {}) => {
    const plugin = await NriPlugin.connect(socket(), name.slice(0, 2), name.slice(3), behaviour)
    plugins.push(plugin)
    return plugin
  }
  afterEach(() => Promise.all(plugins.splice(0).map((plugin) => plugin.close())))

  const start = async (name: string, command = IDLE) =>
    startPod(world.cri, await podConfig(world.site, name), containerConfig('main', world.image, command))

  it('connect to a socket that is for root alone', async () => {
    assert.equal((await stat(socket())).mode & 0o777, 0o600)
    assert.equal((await stat(resolve(socket(), '..'))).mode & 0o777, 0o700)
  })

  it('hear of everything, once and in order', async () => {
    const plugin = await plugged('10-all')
    const { sandboxId, containerId } = await start('all')
    await world.cri.runtime.updateContainerResources({ containerId, linux: { ...noLimits, cpuShares: 256n } })
    await world.cri.runtime.updatePodSandboxResources({
      podSandboxId: sandboxId,
      overhead: undefined,
      resources: undefined,
    })
    await world.cri.runtime.stopContainer({ containerId, timeout: 0n })
    await world.cri.runtime.removeContainer({ containerId })
    await world.cri.runtime.stopPodSandbox({ podSandboxId: sandboxId })
    await world.cri.runtime.stopPodSandbox({ podSandboxId: sandboxId })
    await world.cri.runtime.removePodSandbox({ podSandboxId: sandboxId })
    assert.deepEqual(plugin.of(containerId), [
      'CreateContainer',
      'PostCreateContainer',
      'StartContainer',
      'PostStartContainer',
      'UpdateContainer',
      'PostUpdateContainer',
      'StopContainer',
      'RemoveContainer',
    ])
    assert.deepEqual(plugin.of(sandboxId), [
      'RunPodSandbox',
      'UpdatePodSandbox',
      'PostUpdatePodSandbox',
      'StopPodSandbox',
      'RemovePodSandbox',
    ])
  })

  it('hear of the end of a container that ends by itself', async () => {
    const plugin = await plugged('10-end')
    const { sandboxId, containerId } = await start('end', ['true'])
    await until('its end is told', LONG_MS, async () => plugin.of(containerId).includes('StopContainer') || undefined)
    await removePod(world.cri, sandboxId)
  })

  it('adjust what is created, and it stays adjusted when the kubelet changes something else', async () => {
    await plugged('10-first', {
      create: ({ container }) => ({
        adjust: {
          env: [{ key: 'PLUGGED_IN', value: `of ${container?.name}` }],
          mounts: [{ destination: '/plugged', type: 'tmpfs', source: 'tmpfs', options: ['ro', 'nosuid'] }],
          rlimits: [{ type: 'RLIMIT_NOFILE', soft: 77n, hard: 99n }],
          linux: {
            resources: { memory: { limit: { value: 64n * MIB } }, cpu: { quota: { value: 30_000n } } },
            devices: [{ path: '/dev/plugged', type: 'c', major: 1n, minor: 7n, fileMode: { value: 0o666 } }],
          },
        },
      }),
    })
    await plugged('20-second', {
      create: ({ container }) => ({
        adjust: {
          args: [...(container?.args ?? []), container?.env.find((entry) => entry.startsWith('PLUGGED_')) ?? 'unseen'],
        },
      }),
    })
    const script =
      'echo "$0"; grep /plugged /proc/mounts; ulimit -n; test -c /dev/plugged && echo x > /dev/plugged; sleep 1000'
    const { containerId, logPath, sandboxId } = await start('adjusted', ['sh', '-c', script])
    const lines = await until('it has spoken', LONG_MS, async () => {
      const said = (await readLog(logPath)).map(({ content }) => content)
      return said.length >= 4 ? said : undefined
    })
    assert.equal(lines[0], 'PLUGGED_IN=of main')
    assert.match(lines[1] ?? '', /tmpfs \/plugged tmpfs ro/)
    assert.equal(lines[2], '77')
    assert.match(lines[3] ?? '', /No space left on device/, 'the device is that of /dev/full')
    assert.equal((await containerStatus(world.cri, containerId)).resources?.linux?.memoryLimitInBytes, 64n * MIB)
    await world.cri.runtime.updateContainerResources({ containerId, linux: { ...noLimits, cpuShares: 300n } })
    const kernel = await kernelLimits(world.site, containerId)
    assert.deepEqual([kernel.memory, kernel.quota], [String(64n * MIB), '30000'])
    await removePod(world.cri, sandboxId)
  })

  it('move a container to a cgroup of their own choice, where it is found again', {
    skip: isCgroupV2 && 'cgroup v1',
  }, async () => {
    const path = `${world.site.cgroupParent}/moved`
    await plugged('10-mover', { create: () => ({ adjust: { linux: { cgroupsPath: path } } }) })
    const { containerId, sandboxId } = await start('moved')
    assert.match(await readFile(`/sys/fs/cgroup/memory${path}/cgroup.procs`, 'utf8'), /\d/)
    await removePod(world.cri, sandboxId)
    await assert.rejects(stat(`/sys/fs/cgroup/memory${path}`))
    await assert.rejects(world.cri.runtime.containerStatus({ containerId }), failsWith(status.NOT_FOUND))
  })

  it('change the limits of other containers, and evict them, in answer or by themselves', async () => {
    const other = await start('other', POLITE)
    const victim = await start('victim', POLITE)
    const limit = (containerId: string, value: bigint) => ({
      containerId,
      linux: { resources: { cpu: { quota: { value } } } },
    })
    const plugin = await plugged('10-busy', {
      create: () => ({
        update: [limit(other.containerId, 40_000n)],
        evict: [{ containerId: victim.containerId, reason: 'test' }],
      }),
      update: ({ container, linuxResources }) => ({
        update: [
          limit(container?.id ?? '', (linuxResources?.cpu?.quota?.value ?? 0n) / 2n),
          limit(other.containerId, 50_000n),
        ],
      }),
    })
    const { containerId } = await start('busy')
    const quota = async (id: string) => (await kernelLimits(world.site, id)).quota
    assert.equal(await quota(other.containerId), '40000')
    await untilExited(world.cri, victim.containerId, LONG_MS)
    await world.cri.runtime.updateContainerResources({ containerId, linux: { ...noLimits, cpuQuota: 20_000n } })
    assert.deepEqual([await quota(containerId), await quota(other.containerId)], ['10000', '50000'])
    const failed = await plugin.updateContainers({
      update: [limit(other.containerId, 60_000n), limit(victim.containerId, 10_000n), limit('nobody', 10_000n)],
    })
    assert.deepEqual(failed, [victim.containerId, 'nobody'])
    assert.equal(await quota(other.containerId), '60000')
    await plugin.updateContainers({ evict: [{ containerId: other.containerId, reason: 'test' }] })
    await untilExited(world.cri, other.containerId, LONG_MS)
    for (const { sandboxId } of [other, victim]) await removePod(world.cri, sandboxId)
  })

  it('refuse pods and containers, of which nothing is left, and a retry succeeds', async () => {
    const refusing = new Set(['RunPodSandbox', 'CreateContainer'])
    const refuse = (method: string) => {
      if (refusing.delete(method)) throw new Error(`not now: ${method}`)
    }
    const plugin = await plugged('10-no', { before: refuse })
    const sandbox = await podConfig(world.site, 'refused')
    await assert.rejects(
      world.cri.runtime.runPodSandbox({ config: sandbox }),
      failsWith(status.FAILED_PRECONDITION, /"10-no" refuses RunPodSandbox/),
    )
    const refused = plugin.heard.find(({ method }) => method === 'RunPodSandbox')?.pod ?? ''
    assert.deepEqual(plugin.of(refused), ['RunPodSandbox', 'StopPodSandbox', 'RemovePodSandbox'])
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    const config = containerConfig('main', world.image, IDLE)
    await assert.rejects(
      createContainer(world.cri, podSandboxId, sandbox, config),
      failsWith(status.FAILED_PRECONDITION, /refuses CreateContainer/),
    )
    assert.deepEqual(
      (await world.cri.runtime.listContainers({})).containers.filter((one) => one.podSandboxId === podSandboxId),
      [],
    )
    const id = await createContainer(world.cri, podSandboxId, sandbox, config)
    assert.deepEqual(plugin.of(id).slice(0, 1), ['CreateContainer'])
    await removePod(world.cri, podSandboxId)
  })

  it('are kept from what the node forbids them', async () => {
    await plugged('10-sysctl', { create: () => ({ adjust: { linux: { sysctl: { 'net.ipv4.ip_forward': '1' } } } }) })
    const sandbox = await podConfig(world.site, 'forbidden')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    const create = createContainer(world.cri, podSandboxId, sandbox, containerConfig('main', world.image, IDLE))
    await assert.rejects(
      create,
      failsWith(status.FAILED_PRECONDITION, /"10-sysctl" adjusts kernel parameters, which the node forbids/),
    )
    await removePod(world.cri, podSandboxId)
  })

  it('that hang, die or talk nonsense are done without', async () => {
    const hanging = await plugged('10-hangs', {
      before: (method) => (method === 'RunPodSandbox' ? new Promise(() => {}) : undefined),
    })
    const dying = await plugged('20-dies', {
      before: (method) => (method === 'StartContainer' ? dying.close() : undefined),
    })
    const nonsense = connect(socket())
    nonsense.write('GET / HTTP/1.1\r\n\r\n')
    await new Promise((gone) =>
      nonsense
        .on('error', () => {})
        .once('close', gone)
        .resume(),
    )
    const { sandboxId, containerId } = await start('brave')
    await hanging.closed
    assert.equal((await containerStatus(world.cri, containerId)).state, 1)
    await removePod(world.cri, sandboxId)
  })

  it('that join late hear of each container once, whenever it is made, and again after a restart of the daemon', async () => {
    const before = await start('before')
    const gate = Promise.withResolvers<void>()
    const reached = Promise.withResolvers<void>()
    const joining = plugged('10-late', {
      synchronized: async () => {
        reached.resolve()
        await gate.promise
      },
    })
    await reached.promise
    const meanwhile = Promise.all(['one', 'two', 'three'].map((name) => start(name)))
    gate.resolve()
    const plugin = await joining
    const pods = [before, ...(await meanwhile)]
    for (const { containerId, sandboxId } of pods) {
      const told = plugin.of(containerId).filter((method) => method === 'Synchronize' || method === 'CreateContainer')
      assert.equal(told.length, 1, told.join())
      const toldOfPod = plugin.of(sandboxId).filter((method) => method === 'Synchronize' || method === 'RunPodSandbox')
      assert.equal(toldOfPod.length, 1, toldOfPod.join())
    }
    await world.runtime.kill()
    await plugin.closed
    await world.runtime.start()
    const again = await plugged('10-late')
    for (const { containerId, sandboxId } of pods) {
      assert.deepEqual(again.of(containerId), ['Synchronize'])
      assert.deepEqual(again.of(sandboxId), ['Synchronize'])
      await removePod(world.cri, sandboxId)
    }
  })

  it('that are installed are started with the daemon, with their configuration, and end with it', async () => {
    const { site, registry, runtime } = world
    const [pluginDir, pluginConfigDir, heard] = [site.path('plugins'), site.path('conf.d'), site.path('heard')]
    await mkdir(pluginDir)
    await mkdir(pluginConfigDir)
    const script = `#!/bin/sh\nexec ${process.execPath} ${resolve(import.meta.dirname, 'nri-plugin.ts')}\n`
    await writeFile(`${pluginDir}/30-installed`, script)
    await chmod(`${pluginDir}/30-installed`, 0o755)
    await writeFile(`${pluginConfigDir}/installed.conf`, heard)
    const sections = { nri: { ...nri, pluginDir, pluginConfigDir, allowConnections: false } }
    await writeCricketConfig(site, { insecureRegistries: [registry.host], sections })
    await runtime.stop()
    await runtime.start()
    await assert.rejects(stat(socket()))
    const { sandboxId } = await start('installed')
    await removePod(world.cri, sandboxId)
    assert.match(await readFile(heard, 'utf8'), /^30 RunPodSandbox\n30 CreateContainer\n/)
  })
})

const noLimits = {
  cpuPeriod: 0n,
  cpuQuota: 0n,
  cpuShares: 0n,
  memoryLimitInBytes: 0n,
  oomScoreAdj: 0n,
  cpusetCpus: '',
  cpusetMems: '',
  hugepageLimits: [],
  unified: {},
  memorySwapLimitInBytes: 0n,
}
