/** The whole line once, as the kubelet walks it: the daemon, sandboxes, the network between them. */

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import {
  CgroupDriver,
  ImageServiceService,
  NamespaceMode,
  PodSandboxState,
  Protocol,
  RuntimeServiceService,
} from '#proto/generated/api.ts'
import { failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { isPeer } from './peer.ts'
import { containerConfig, podConfig, removePod, startPod, until } from './pods.ts'
import { freePort } from './registry.ts'

const IDLE = ['sleep', '1000']
const nowNs = () => BigInt(Date.now()) * 1_000_000n

/** Off unless configured, which only its own tests do; and one that does not end by itself, with tests of its own. */
const ELSEWHERE = new Set(['checkpointContainer', 'getContainerEvents'])

describe('a runtime that has just started', () => {
  const world = useWorld({ pulled: false })

  it('says who it is', async () => {
    const version = await world.cri.runtime.version({ version: 'v1' })
    assert.equal(version.runtimeApiVersion, 'v1')
    assert.notEqual(version.version, '')
    if (!isPeer) assert.equal(version.runtimeName, 'cricket')
    if (!isPeer) assert.match(version.runtimeVersion, /^1\.36\./)
  })

  it('is ready, and so is its network', async () => {
    const { status: runtimeStatus } = await world.cri.runtime.status({})
    const conditions = new Map(runtimeStatus?.conditions.map(({ type, status: isTrue }) => [type, isTrue]))
    assert.equal(conditions.get('RuntimeReady'), true)
    assert.equal(conditions.get('NetworkReady'), true)
  })

  it('tells its cgroup driver', { skip: isPeer && 'containerd 1.6 lacks RuntimeConfig' }, async () => {
    const { linux } = await world.cri.runtime.runtimeConfig({})
    assert.equal(
      linux?.cgroupDriver,
      world.site.cgroupDriver === 'systemd' ? CgroupDriver.SYSTEMD : CgroupDriver.CGROUPFS,
    )
  })

  it('has no images, pods or containers', async () => {
    assert.deepEqual((await world.cri.images.listImages({})).images, [])
    assert.deepEqual((await world.cri.runtime.listPodSandbox({})).items, [])
    assert.deepEqual((await world.cri.runtime.listContainers({})).containers, [])
  })

  it('reports its image file system', async () => {
    const { imageFilesystems } = await world.cri.images.imageFsInfo({})
    const [first] = imageFilesystems
    assert.notEqual(first, undefined)
    assert.ok((first?.timestamp ?? 0n) > 0n)
    assert.ok(first?.fsId?.mountpoint.startsWith(world.site.dir))
  })

  it('answers every RPC of the API', { skip: isPeer && 'ours' }, async () => {
    for (const service of [RuntimeServiceService, ImageServiceService]) {
      for (const [name, { path, responseStream }] of Object.entries(service)) {
        if (ELSEWHERE.has(name)) continue
        const code = responseStream
          ? await world.cri.streamStatus(path)
          : await world.cri.raw(path, Buffer.alloc(0)).then(
              () => status.OK,
              (error) => error.code,
            )
        assert.ok([status.OK, status.INVALID_ARGUMENT, status.NOT_FOUND].includes(code), `${name}: ${status[code]}`)
      }
    }
  })

  it('answers UNIMPLEMENTED to an RPC that nobody knows', async () => {
    const call = world.cri.raw('/runtime.v1.RuntimeService/Sing', Buffer.alloc(0))
    await assert.rejects(call, failsWith(status.UNIMPLEMENTED))
  })
})

describe('a sandbox', () => {
  const world = useWorld()

  it('gets an address, keeps what it was given, and goes without a trace', async () => {
    const config = await podConfig(world.site, 'plain', { annotations: { 'a/b': ' spaces \n', empty: '' } })
    const before = nowNs()
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config })
    const { status: sandbox } = await world.cri.runtime.podSandboxStatus({ podSandboxId })
    assert.equal(sandbox?.state, PodSandboxState.SANDBOX_READY)
    assert.deepEqual(sandbox?.metadata, config.metadata)
    assert.deepEqual(sandbox?.labels, config.labels)
    assert.deepEqual(sandbox?.annotations, config.annotations)
    assert.ok((sandbox?.createdAt ?? 0n) >= before - 1_000_000n && (sandbox?.createdAt ?? 0n) <= nowNs())
    assert.ok(sandbox?.network?.ip.startsWith(`${world.site.network.prefix}.`))
    await world.cri.runtime.stopPodSandbox({ podSandboxId })
    const stopped = await world.cri.runtime.podSandboxStatus({ podSandboxId })
    assert.equal(stopped.status?.state, PodSandboxState.SANDBOX_NOTREADY)
    await world.cri.runtime.removePodSandbox({ podSandboxId })
    await assert.rejects(world.cri.runtime.podSandboxStatus({ podSandboxId }), failsWith(status.NOT_FOUND))
    await world.assertNothingLeft()
  })

  it('is listed by id, state and labels', async () => {
    const first = await world.cri.runtime.runPodSandbox({ config: await podConfig(world.site, 'first') })
    const second = await world.cri.runtime.runPodSandbox({
      config: await podConfig(world.site, 'second', { labels: { app: 'two' } }),
    })
    await world.cri.runtime.stopPodSandbox({ podSandboxId: first.podSandboxId })
    const list = async (filter: { id?: string; state?: PodSandboxState; labels?: Record<string, string> }) => {
      const { id = '', state, labels: labelSelector = {} } = filter
      const full = { id, labelSelector, state: state === undefined ? undefined : { state } }
      return (await world.cri.runtime.listPodSandbox({ filter: full })).items.map((item) => item.id)
    }
    assert.deepEqual(await list({ id: first.podSandboxId }), [first.podSandboxId])
    assert.deepEqual(await list({ state: PodSandboxState.SANDBOX_READY }), [second.podSandboxId])
    assert.deepEqual(await list({ state: PodSandboxState.SANDBOX_NOTREADY }), [first.podSandboxId])
    assert.deepEqual(await list({ labels: { app: 'two' } }), [second.podSandboxId])
    assert.deepEqual(await list({ labels: { app: 'three' } }), [])
    assert.deepEqual((await list({})).sort(), [first.podSandboxId, second.podSandboxId].sort())
    await removePod(world.cri, first.podSandboxId)
    await removePod(world.cri, second.podSandboxId)
  })

  it('given twice is the same one', { skip: isPeer && 'containerd answers "name is reserved"' }, async () => {
    const config = await podConfig(world.site, 'twice')
    const [a, b] = await Promise.all([
      world.cri.runtime.runPodSandbox({ config }),
      world.cri.runtime.runPodSandbox({ config }),
    ])
    assert.equal(a.podSandboxId, b.podSandboxId)
    await removePod(world.cri, a.podSandboxId)
  })

  it('on the host network has no address of its own', async () => {
    const config = await podConfig(world.site, 'host', {
      hostname: '',
      linux: {
        cgroupParent: world.site.cgroupParent,
        securityContext: { namespaceOptions: { network: NamespaceMode.NODE, pid: NamespaceMode.CONTAINER } },
      },
    })
    const context = { namespaceOptions: { network: NamespaceMode.NODE, pid: NamespaceMode.CONTAINER } }
    const container = containerConfig('main', world.image, IDLE, { linux: { securityContext: context } })
    const pod = await startPod(world.cri, config, container)
    const { stdout } = await world.cri.runtime.execSync({
      containerId: pod.containerId,
      cmd: ['cat', '/proc/net/dev'],
      timeout: 10n,
    })
    assert.match(stdout.toString(), new RegExp(world.site.network.bridge))
    assert.deepEqual(await readFile('/proc/net/dev', 'utf8').then((text) => text.includes('lo:')), true)
    await removePod(world.cri, pod.sandboxId)
  })

  it('stops and goes again without complaint, even when it never was', async () => {
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: await podConfig(world.site, 'again') })
    for (const id of [podSandboxId, podSandboxId, 'f'.repeat(64)]) {
      await world.cri.runtime.stopPodSandbox({ podSandboxId: id })
    }
    for (const id of [podSandboxId, podSandboxId, 'f'.repeat(64)]) {
      await world.cri.runtime.removePodSandbox({ podSandboxId: id })
    }
    await world.assertNothingLeft()
  })
})

describe('the pod network', () => {
  const world = useWorld()
  const httpd = ['sh', '-c', 'mkdir /www; echo served > /www/index.html; exec httpd -f -p 8080 -h /www']

  it('reaches a pod from another pod and from the host port', async () => {
    const hostPort = await freePort()
    const sandbox = await podConfig(world.site, 'server', {
      portMappings: [{ protocol: Protocol.TCP, containerPort: 8080, hostPort }],
    })
    const server = await startPod(world.cri, sandbox, containerConfig('main', world.image, httpd))
    const clientPod = await podConfig(world.site, 'client')
    // Without it busybox, unlike ping(8), does not try what the pod's ping_group_range allows.
    const capabilities = { addCapabilities: ['NET_RAW'] }
    const client = await startPod(
      world.cri,
      clientPod,
      containerConfig('main', world.image, IDLE, { linux: { securityContext: { capabilities } } }),
    )
    const { status: serverStatus } = await world.cri.runtime.podSandboxStatus({ podSandboxId: server.sandboxId })
    const address = serverStatus?.network?.ip ?? ''
    const inClient = (cmd: string[]) =>
      world.cri.runtime.execSync({ containerId: client.containerId, cmd, timeout: 10n })
    assert.equal((await inClient(['ping', '-c', '1', '-W', '2', address])).exitCode, 0)
    assert.equal((await inClient(['ping', '-c', '1', '-W', '2', '127.0.0.1'])).exitCode, 0, 'loopback is up')
    const fetched = await until('the server answers', 5000, async () => {
      const { exitCode, stdout } = await inClient(['wget', '-q', '-O', '-', `http://${address}:8080/`])
      return exitCode === 0 ? stdout.toString() : undefined
    })
    assert.equal(fetched, 'served\n')
    for (const host of ['127.0.0.1', `${world.site.network.prefix}.1`]) {
      const response = await fetch(`http://${host}:${hostPort}/`, { signal: AbortSignal.timeout(5000) })
      assert.equal(await response.text(), 'served\n', `through host port of ${host}`)
    }
    await removePod(world.cri, server.sandboxId)
    await assert.rejects(fetch(`http://127.0.0.1:${hostPort}/`, { signal: AbortSignal.timeout(1000) }))
    await removePod(world.cri, client.sandboxId)
    await world.assertNothingLeft()
  })
})
