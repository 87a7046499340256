/** The whole line once, as the kubelet walks it: images, sandbox, containers, logs, exec, network, removal. */

import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import {
  CgroupDriver,
  ContainerState,
  ImageServiceService,
  MountPropagation,
  NamespaceMode,
  PodSandboxState,
  Protocol,
  RuntimeServiceService,
} from '#proto/generated/api.ts'
import { failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { imageSpec } from './image-spec.ts'
import { processOf } from './leftovers.ts'
import { pushImage } from './oci-image.ts'
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
import { freePort } from './registry.ts'

const IDLE = ['sleep', '1000']
const nowNs = () => BigInt(Date.now()) * 1_000_000n

/** What this version implements; every other RPC answers UNIMPLEMENTED. */
const IMPLEMENTED = new Set([
  ...['version', 'status', 'runtimeConfig'],
  ...['runPodSandbox', 'stopPodSandbox', 'removePodSandbox', 'podSandboxStatus', 'listPodSandbox'],
  ...['createContainer', 'startContainer', 'stopContainer', 'removeContainer', 'containerStatus', 'listContainers'],
  ...[
    'execSync',
    'exec',
    'attach',
    'portForward',
    'reopenContainerLog',
    'updateContainerResources',
    'updatePodSandboxResources',
  ],
  ...['updateRuntimeConfig', 'streamPodSandboxes', 'streamContainers', 'streamImages'],
  ...['listImages', 'imageStatus', 'pullImage', 'removeImage', 'imageFsInfo'],
])

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

  it('answers UNIMPLEMENTED to every RPC that it does not implement', { skip: isPeer && 'ours' }, async () => {
    for (const service of [RuntimeServiceService, ImageServiceService]) {
      for (const [name, { path, responseStream }] of Object.entries(service)) {
        if (IMPLEMENTED.has(name)) continue
        if (responseStream) assert.equal(await world.cri.streamStatus(path), status.UNIMPLEMENTED, name)
        else await assert.rejects(world.cri.raw(path, Buffer.alloc(0)), failsWith(status.UNIMPLEMENTED), name)
      }
    }
  })

  it('answers UNIMPLEMENTED to an RPC that nobody knows', async () => {
    const call = world.cri.raw('/runtime.v1.RuntimeService/Sing', Buffer.alloc(0))
    await assert.rejects(call, failsWith(status.UNIMPLEMENTED))
  })
})

describe('images', () => {
  const world = useWorld({ pulled: false })

  it('pulls by tag through an index, and knows the image by every name', async () => {
    const { imageRef } = await world.cri.images.pullImage({ image: imageSpec(world.image) })
    const byTag = await world.cri.images.imageStatus({ image: imageSpec(world.image) })
    const image = byTag.image
    assert.equal(image?.id, world.busybox.config.digest)
    assert.deepEqual(image?.repoTags, [world.image])
    assert.ok((image?.size ?? 0n) > 0n)
    for (const name of [imageRef, image?.id ?? '', image?.repoDigests[0] ?? '']) {
      const found = await world.cri.images.imageStatus({ image: imageSpec(name) })
      assert.equal(found.image?.id, image?.id, `by '${name}'`)
    }
    const { images } = await world.cri.images.listImages({})
    assert.deepEqual(
      images.map(({ id }) => id),
      [image?.id],
    )
  })

  it('pulls a bare manifest, and by digest', async () => {
    await pushImage(world.registry.url, 'plain', 'x', world.busybox, { as: 'manifest' })
    const byTag = `${world.registry.host}/plain:x`
    const byDigest = `${world.registry.host}/plain@${world.busybox.manifest.digest}`
    for (const name of [byTag, byDigest]) {
      await world.cri.images.pullImage({ image: imageSpec(name) })
      const { image } = await world.cri.images.imageStatus({ image: imageSpec(name) })
      assert.equal(image?.id, world.busybox.config.digest)
    }
    const { image } = await world.cri.images.imageStatus({ image: imageSpec(byTag) })
    assert.ok(image?.repoTags.includes(byTag))
    assert.ok(image?.repoDigests.includes(byDigest))
  })

  it('says that an unknown image is not there by an empty answer', async () => {
    const answer = await world.cri.images.imageStatus({ image: imageSpec(`${world.registry.host}/nobody:1`) })
    assert.equal(answer.image, undefined)
  })

  it('counts the bytes of what it keeps', { skip: isPeer && 'containerd counts in the background' }, async () => {
    const { imageFilesystems } = await world.cri.images.imageFsInfo({})
    assert.ok((imageFilesystems[0]?.usedBytes?.value ?? 0n) > 1_000_000n)
  })

  it('removes an image with all its names, and again without complaint', async () => {
    const { image } = await world.cri.images.imageStatus({ image: imageSpec(world.image) })
    await world.cri.images.removeImage({ image: imageSpec(image?.id ?? '') })
    assert.deepEqual((await world.cri.images.listImages({})).images, [])
    await world.cri.images.removeImage({ image: imageSpec(world.image) })
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

describe('a container', () => {
  const world = useWorld()
  const exec = (containerId: string, cmd: string[], timeout = 10n) =>
    world.cri.runtime.execSync({ containerId, cmd, timeout })
  const start = async (name: string, command: string[], overrides: Parameters<typeof containerConfig>[3] = {}) =>
    startPod(world.cri, await podConfig(world.site, name), containerConfig('main', world.image, command, overrides))

  it('goes from created over running to exited, with its times and exit code', async () => {
    const sandbox = await podConfig(world.site, 'life')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    const config = containerConfig('main', world.image, ['sh', '-c', 'sleep 0.3; exit 7'], {
      annotations: { kept: ' as is ' },
    })
    const containerId = await createContainer(world.cri, podSandboxId, sandbox, config)
    const created = await containerStatus(world.cri, containerId)
    assert.equal(created.state, ContainerState.CONTAINER_CREATED)
    assert.ok(created.createdAt > 0n)
    assert.equal(created.startedAt, 0n)
    assert.deepEqual(created.metadata, config.metadata)
    assert.deepEqual(created.labels, config.labels)
    assert.deepEqual(created.annotations, config.annotations)
    assert.equal(created.logPath, join(sandbox.logDirectory, 'main/0.log'))
    await world.cri.runtime.startContainer({ containerId })
    const running = await containerStatus(world.cri, containerId)
    assert.equal(running.state, ContainerState.CONTAINER_RUNNING)
    assert.ok(running.startedAt >= running.createdAt)
    const exited = await untilExited(world.cri, containerId)
    assert.equal(exited.exitCode, 7)
    assert.equal(exited.reason, 'Error')
    assert.ok(exited.finishedAt >= exited.startedAt)
    await removePod(world.cri, podSandboxId)
  })

  it('that ends well says Completed', async () => {
    const pod = await start('well', ['true'])
    const exited = await untilExited(world.cri, pod.containerId)
    assert.equal(exited.exitCode, 0)
    assert.equal(exited.reason, 'Completed')
    await removePod(world.cri, pod.sandboxId)
  })

  it('killed by a signal exits with 128 + signal', async () => {
    const pod = await start('killed', ['sleep', '7654'])
    process.kill(await processOf(world.site, 'sleep 7654'), 'SIGKILL')
    const exited = await untilExited(world.cri, pod.containerId)
    assert.equal(exited.exitCode, 137)
    assert.equal(exited.reason, 'Error')
    await removePod(world.cri, pod.sandboxId)
  })

  it('that needs more memory than it may says OOMKilled', async () => {
    const pod = await start('oom', ['sh', '-c', 'head -c 100000000 /dev/zero | tail'], {
      linux: { resources: { memoryLimitInBytes: 16_777_216n, oomScoreAdj: 1000n } },
    })
    const exited = await untilExited(world.cri, pod.containerId)
    assert.equal(exited.reason, 'OOMKilled')
    assert.notEqual(exited.exitCode, 0)
    await removePod(world.cri, pod.sandboxId)
  })

  it('is listed by id, sandbox, state and labels', async () => {
    const pod = await start('listed', IDLE, { labels: { app: 'listed' } })
    const other = await start('other', ['true'])
    await untilExited(world.cri, other.containerId)
    const list = async (filter: {
      id?: string
      pod?: string
      state?: ContainerState
      labels?: Record<string, string>
    }) => {
      const { id = '', pod: podSandboxId = '', state, labels: labelSelector = {} } = filter
      const full = { id, podSandboxId, labelSelector, state: state === undefined ? undefined : { state } }
      return (await world.cri.runtime.listContainers({ filter: full })).containers.map((item) => item.id)
    }
    assert.deepEqual(await list({ id: pod.containerId }), [pod.containerId])
    assert.deepEqual(await list({ pod: other.sandboxId }), [other.containerId])
    assert.deepEqual(await list({ state: ContainerState.CONTAINER_RUNNING }), [pod.containerId])
    assert.deepEqual(await list({ state: ContainerState.CONTAINER_EXITED }), [other.containerId])
    assert.deepEqual(await list({ labels: { app: 'listed' } }), [pod.containerId])
    await removePod(world.cri, pod.sandboxId)
    await removePod(world.cri, other.sandboxId)
  })

  it('sees its image, environment, hostname, name servers and volumes', async () => {
    const volume = world.site.path('volume')
    await mkdir(volume, { recursive: true })
    await writeFile(join(volume, 'from-host'), 'shared')
    const mount = { hostPath: volume, propagation: MountPropagation.PROPAGATION_PRIVATE }
    const pod = await start('view', IDLE, {
      envs: [{ key: 'FROM_POD', value: Buffer.from('also yes') }],
      mounts: [
        { ...mount, containerPath: '/data' },
        { ...mount, containerPath: '/data-ro', readonly: true },
      ],
    })
    const read = async (script: string) => (await exec(pod.containerId, ['sh', '-c', script])).stdout.toString()
    assert.equal(await read('cat /greeting'), 'hello from the second layer\n')
    assert.equal(await read('echo $FROM_IMAGE, $FROM_POD'), 'yes, also yes\n')
    assert.equal(await read('hostname'), 'view\n')
    assert.match(await read('cat /etc/resolv.conf'), /^nameserver 10\.96\.0\.10$/m)
    assert.equal(await read('cat /data/from-host; echo back > /data/from-container'), 'shared')
    assert.equal(await readFile(join(volume, 'from-container'), 'utf8'), 'back\n')
    assert.equal(await read('touch /data-ro/x 2>/dev/null || echo refused'), 'refused\n')
    assert.equal(await read('cat /proc/1/comm'), 'sleep\n')
    await removePod(world.cri, pod.sandboxId)
  })

  it('runs as the user it is told, with its groups', async () => {
    const pod = await start('user', IDLE, {
      linux: { securityContext: { runAsUser: { value: 1000n }, supplementalGroups: [3000n] } },
    })
    const { stdout } = await exec(pod.containerId, ['id'])
    assert.match(stdout.toString(), /^uid=1000\(app\) gid=1000\(app\)/)
    assert.match(stdout.toString(), /3000/)
    const home = await exec(pod.containerId, ['sh', '-c', 'touch /home/app/mine && touch /root/not'])
    assert.notEqual(home.exitCode, 0)
    await removePod(world.cri, pod.sandboxId)
  })

  it('shares a process namespace with its pod when asked to', async () => {
    const namespaceOptions = { network: NamespaceMode.POD, pid: NamespaceMode.POD, ipc: NamespaceMode.POD }
    const linux = { cgroupParent: world.site.cgroupParent, securityContext: { namespaceOptions } }
    const sandbox = await podConfig(world.site, 'shared-pid', { linux })
    const context = { linux: { securityContext: { namespaceOptions } } }
    const pod = await startPod(world.cri, sandbox, containerConfig('one', world.image, ['sleep', '1001'], context))
    const second = containerConfig('two', world.image, ['sleep', '1002'], context)
    const containerId = await createContainer(world.cri, pod.sandboxId, sandbox, second)
    await world.cri.runtime.startContainer({ containerId })
    const { stdout } = await exec(containerId, ['ps', '-o', 'pid,args'])
    assert.match(stdout.toString(), /sleep 1001/)
    assert.match(stdout.toString(), /sleep 1002/)
    await removePod(world.cri, pod.sandboxId)
    await world.assertNothingLeft()
  })

  it('writes its log in CRI format: both streams, exact bytes, long lines in parts, an unfinished last line', async () => {
    const script = `echo to stdout; echo to stderr >&2; printf ' \\ttabs and spaces \\n\\n'; head -c 40000 /dev/zero | tr '\\0' x; echo; printf unfinished`
    const pod = await start('log', ['sh', '-c', script])
    await untilExited(world.cri, pod.containerId)
    const records = await readLog(pod.logPath)
    const contents = records.filter(({ stream }) => stream === 'stdout').map(({ content }) => content)
    const long = records.filter(({ content }) => content.includes('xxx'))
    assert.deepEqual(
      records.filter(({ stream }) => stream === 'stderr').map(({ tag, content }) => [tag, content]),
      [['F', 'to stderr']],
    )
    assert.deepEqual(contents.slice(0, 3), ['to stdout', ' \ttabs and spaces ', ''])
    assert.equal(long.map(({ content }) => content).join(''), 'x'.repeat(40_000))
    assert.deepEqual(
      long.map(({ tag }) => tag),
      ['P', 'P', 'F'],
    )
    assert.ok(long.every(({ content }) => content.length <= 16_384))
    assert.equal(records.at(-1)?.content, 'unfinished')
    const times = records.map(({ time }) => time)
    assert.deepEqual(times, times.toSorted())
    await removePod(world.cri, pod.sandboxId)
  })

  it('with a terminal writes to the log what the terminal shows', async () => {
    const pod = await start('tty', ['sh', '-c', 'test -t 0 && test -t 1 && echo on a terminal'], {
      tty: true,
      stdin: true,
    })
    const exited = await untilExited(world.cri, pod.containerId)
    assert.equal(exited.exitCode, 0)
    const [record] = await readLog(pod.logPath)
    assert.equal(record?.stream, 'stdout')
    assert.equal(record?.content.trimEnd(), 'on a terminal')
    await removePod(world.cri, pod.sandboxId)
  })

  it('is asked by ExecSync: output, errors, exit code', async () => {
    const pod = await start('exec', IDLE)
    const answer = await exec(pod.containerId, ['sh', '-c', 'echo out; echo err >&2; exit 3'])
    assert.equal(answer.stdout.toString(), 'out\n')
    assert.equal(answer.stderr.toString(), 'err\n')
    assert.equal(answer.exitCode, 3)
    const many = await Promise.all(Array.from({ length: 10 }, (_, n) => exec(pod.containerId, ['echo', String(n)])))
    assert.deepEqual(
      many.map(({ stdout }) => stdout.toString()),
      Array.from({ length: 10 }, (_, n) => `${n}\n`),
    )
    await removePod(world.cri, pod.sandboxId)
  })

  it('ends an ExecSync at its deadline with all it started', async () => {
    const pod = await start('deadline', IDLE)
    const call = exec(pod.containerId, ['sh', '-c', 'sleep 4321 & sleep 4322'], 1n)
    await assert.rejects(call, failsWith(status.DEADLINE_EXCEEDED))
    await until('the command and its child are gone', 5000, async () => {
      const { stdout } = await exec(pod.containerId, ['ps', '-o', 'args'])
      return stdout.toString().includes(isPeer ? 'sleep 4322' : 'sleep 432') ? undefined : true
    })
    await removePod(world.cri, pod.sandboxId)
  })

  it('gets its stop signal, and SIGKILL when it does not listen', async () => {
    const listening = await start('listening', ['sh', '-c', "trap 'exit 5' TERM; while :; do sleep 0.05; done"])
    const deaf = await start('deaf', IDLE)
    const stop = ({ containerId }: { containerId: string }, timeout: bigint) =>
      world.cri.runtime.stopContainer({ containerId, timeout })
    await stop(listening, 10n)
    assert.equal((await containerStatus(world.cri, listening.containerId)).exitCode, 5)
    await stop(deaf, 1n)
    const status137 = await containerStatus(world.cri, deaf.containerId)
    assert.equal(status137.state, ContainerState.CONTAINER_EXITED)
    assert.equal(status137.exitCode, 137)
    await stop(deaf, 1n)
    await removePod(world.cri, listening.sandboxId)
    await removePod(world.cri, deaf.sandboxId)
  })

  it('is replaced in its sandbox by its next attempt', async () => {
    const pod = await start('attempts', ['false'])
    await untilExited(world.cri, pod.containerId)
    const next = containerConfig('main', world.image, IDLE, {
      metadata: { name: 'main', attempt: 1 },
      logPath: 'main/1.log',
    })
    const second = await createContainer(world.cri, pod.sandboxId, pod.sandbox, next)
    await world.cri.runtime.startContainer({ containerId: second })
    await world.cri.runtime.removeContainer({ containerId: pod.containerId })
    await world.cri.runtime.removeContainer({ containerId: pod.containerId })
    await assert.rejects(containerStatus(world.cri, pod.containerId), failsWith(status.NOT_FOUND))
    assert.equal((await containerStatus(world.cri, second)).metadata?.attempt, 1)
    await removePod(world.cri, pod.sandboxId)
  })

  it('goes with its sandbox when nobody stops it before', async () => {
    const pod = await start('together', IDLE)
    await world.cri.runtime.stopPodSandbox({ podSandboxId: pod.sandboxId })
    assert.equal((await containerStatus(world.cri, pod.containerId)).state, ContainerState.CONTAINER_EXITED)
    await world.cri.runtime.removePodSandbox({ podSandboxId: pod.sandboxId })
    await assert.rejects(containerStatus(world.cri, pod.containerId), failsWith(status.NOT_FOUND))
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
