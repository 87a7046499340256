/** Statistics (api.proto, ContainerStats and its siblings): what a kubelet evicts, scales and draws by. */

import assert from 'node:assert/strict'
import { readdir, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import {
  ContainerStats,
  NamespaceMode,
  RuntimeServiceService,
  StreamContainerStatsRequest,
  StreamContainerStatsResponse,
  StreamPodSandboxMetricsResponse,
  StreamPodSandboxStatsRequest,
  StreamPodSandboxStatsResponse,
} from '../proto/generated/api.ts'
import { isCgroupV2 } from './cgroup-files.ts'
import { failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { containerConfig, createContainer, podConfig, removePod, startPod, until, untilExited } from './pods.ts'

const MIB = 1024 * 1024
/** Two mebibytes for the writable layer, some memory, and no rest. */
const BUSY = 'dd if=/dev/zero of=/written bs=1M count=2 2>/dev/null; while :; do :; done'

describe('statistics', () => {
  const world = useWorld()

  /** A pod with a cgroup of its own, as the kubelet makes them. */
  const ownCgroup = async (name: string) => {
    const { linux } = await podConfig(world.site, name)
    const own = { ...linux, cgroupParent: `${world.site.cgroupParent}/pod-${name}` }
    return podConfig(world.site, name, { linux: own })
  }

  /** The pod, and then its cgroup, as the kubelet does. */
  const endPod = async (name: string, sandboxId: string) => {
    await removePod(world.cri, sandboxId)
    for (const hierarchy of isCgroupV2 ? [''] : await readdir('/sys/fs/cgroup')) {
      const directory = join('/sys/fs/cgroup', hierarchy, world.site.cgroupParent, `pod-${name}`)
      // A process that has just ended holds its cgroup for a moment.
      await until(`'${directory}' goes`, 20_000, () =>
        rmdir(directory).then(
          () => true,
          (error) => error.code === 'ENOENT' || undefined,
        ),
      )
    }
  }

  it('tell of a container from the first answer on', async () => {
    const { cri } = world
    const pod = await ownCgroup('busy')
    const config = containerConfig('main', world.image, ['sh', '-c', BUSY], { labels: { app: 'busy' } })
    const { sandboxId, containerId } = await startPod(cri, pod, config)
    const stats = (await cri.runtime.containerStats({ containerId })).stats ?? ContainerStats.create()
    assert.equal(stats.attributes?.id, containerId)
    assert.deepEqual(stats.attributes.metadata, config.metadata)
    assert.deepEqual([stats.attributes.labels, stats.attributes.annotations], [config.labels, config.annotations])
    assert.ok((stats.cpu?.usageNanoCores?.value ?? 0n) > 0n, 'a rate in the first answer')
    const [cpu, memory] = [stats.cpu, stats.memory]
    assert.ok(cpu?.timestamp && cpu.usageCoreNanoSeconds?.value && memory?.timestamp)
    const { workingSetBytes, availableBytes, usageBytes, rssBytes, pageFaults } = memory
    assert.ok(workingSetBytes && usageBytes && workingSetBytes.value <= usageBytes.value && rssBytes && pageFaults)
    assert.equal(availableBytes && availableBytes.value + workingSetBytes.value, 128n * BigInt(MIB))
    // Pressure is told by version 2 of cgroups only, and left out, not 0, elsewhere.
    assert.equal(stats.cpu?.psi !== undefined, isCgroupV2)
    const { fsId, usedBytes, inodesUsed } = stats.writableLayer ?? {}
    assert.equal(fsId?.mountpoint, (await cri.images.imageFsInfo({})).containerFilesystems[0]?.fsId?.mountpoint)
    assert.ok(usedBytes && inodesUsed && inodesUsed.value > 0n)
    await until('processor time grows', 20_000, async () => {
      const later = await cri.runtime.containerStats({ containerId })
      return (later.stats?.cpu?.usageCoreNanoSeconds?.value ?? 0n) > 1_000_000_000n || undefined
    })
    await endPod('busy', sandboxId)
  })

  it('tell of pods: their cgroup, their network by its real main interface, their processes, their containers', async () => {
    const { cri } = world
    const { sandboxId, containerId } = await startPod(
      cri,
      await ownCgroup('net'),
      containerConfig('main', world.image, ['sh', '-c', 'sleep 1000 & sleep 1000 & wait']),
    )
    const address = (await cri.runtime.podSandboxStatus({ podSandboxId: sandboxId })).status?.network?.ip ?? ''
    const read = async () => (await cri.runtime.podSandboxStats({ podSandboxId: sandboxId })).stats?.linux
    const before = await read()
    assert.ok(before?.network?.timestamp && before.cpu?.usageNanoCores && before.memory?.workingSetBytes?.value)
    assert.equal(before.network.defaultInterface?.name, 'eth0')
    assert.deepEqual(
      before.network.interfaces.map(({ name }) => name),
      ['eth0'],
    )
    await until('both processes are counted', 20_000, async () => {
      const count = (await read())?.process?.processCount?.value
      return count === 3n || undefined
    })
    assert.deepEqual(
      before.containers.map(({ attributes }) => attributes?.id),
      [containerId],
    )
    // To an address that nobody has: the packets that ask for its owner leave all the same.
    const other = address.replace(/\.\d+$/, '.250')
    await cri.runtime.execSync({ containerId, cmd: ['nc', '-w', '1', other, '9'], timeout: 20n })
    const after = await read()
    assert.ok(
      (after?.network?.defaultInterface?.txBytes?.value ?? 0n) >
        (before.network.defaultInterface?.txBytes?.value ?? 0n),
    )
    await endPod('net', sandboxId)
  })

  it('tell of pods on the host network the interfaces of the node', async () => {
    const { linux } = await podConfig(world.site, 'host')
    const onHost = { network: NamespaceMode.NODE, pid: NamespaceMode.CONTAINER, ipc: NamespaceMode.POD }
    const pod = await podConfig(world.site, 'host', {
      linux: { ...linux, securityContext: { namespaceOptions: onHost } },
    })
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: pod })
    const { stats } = await world.cri.runtime.podSandboxStats({ podSandboxId })
    const names = stats?.linux?.network?.interfaces.map(({ name }) => name) ?? []
    assert.ok(names.length > 0 && !names.includes('lo'), names.join())
    assert.ok(names.includes(stats?.linux?.network?.defaultInterface?.name ?? ''))
    await removePod(world.cri, podSandboxId)
  })

  it('are listed by filter, the same unary and streamed, without what has ended', async () => {
    const { cri } = world
    const pod = await podConfig(world.site, 'listed')
    const labelled = containerConfig('main', world.image, ['sleep', '1000'], { labels: { app: 'listed' } })
    const { sandboxId, containerId } = await startPod(cri, pod, labelled)
    const ended = await createContainer(cri, sandboxId, pod, containerConfig('done', world.image, ['true']))
    await cri.runtime.startContainer({ containerId: ended })
    await untilExited(cri, ended)
    const ids = async (filter: { id?: string; podSandboxId?: string; labelSelector?: Record<string, string> }) => {
      const full = { id: '', podSandboxId: '', labelSelector: {}, ...filter }
      const { stats } = await cri.runtime.listContainerStats({ filter: full })
      const request = Buffer.from(StreamContainerStatsRequest.encode({ filter: full }).finish())
      const chunks = await cri.stream(RuntimeServiceService.streamContainerStats.path, request)
      const streamed = chunks.flatMap((bytes) => StreamContainerStatsResponse.decode(bytes).containerStats)
      const idsOf = (list: readonly ContainerStats[]) => list.map(({ attributes }) => attributes?.id)
      assert.deepEqual(idsOf(streamed), idsOf(stats))
      return idsOf(stats)
    }
    assert.deepEqual(await ids({}), [containerId])
    assert.deepEqual(await ids({ labelSelector: { app: 'listed' } }), [containerId])
    assert.deepEqual(await ids({ podSandboxId: sandboxId }), [containerId])
    assert.deepEqual(await ids({ id: containerId.slice(0, 13) }), [containerId])
    for (const nobody of [{ id: 'ffff' }, { podSandboxId: 'ffff' }, { labelSelector: { app: 'other' } }])
      assert.deepEqual(await ids(nobody), [])
    const sandboxes = await cri.runtime.listPodSandboxStats({})
    const all = Buffer.from(StreamPodSandboxStatsRequest.encode({ filter: undefined }).finish())
    const chunks = await cri.stream(RuntimeServiceService.streamPodSandboxStats.path, all)
    const found = chunks.flatMap((bytes) => StreamPodSandboxStatsResponse.decode(bytes).podSandboxStats)
    for (const list of [sandboxes.stats, found])
      assert.deepEqual(
        list.map(({ attributes }) => attributes?.id),
        [sandboxId],
      )
    // Of what has ended nothing but its layer is left.
    const rest = (await cri.runtime.containerStats({ containerId: ended })).stats
    assert.deepEqual([rest?.cpu, rest?.memory, rest?.swap], [undefined, undefined, undefined])
    assert.ok(rest?.writableLayer?.inodesUsed)
    await removePod(cri, sandboxId)
    for (const unknown of [containerId, 'ffff'])
      await assert.rejects(cri.runtime.containerStats({ containerId: unknown }), failsWith(status.NOT_FOUND))
    await assert.rejects(cri.runtime.podSandboxStats({ podSandboxId: sandboxId }), failsWith(status.NOT_FOUND))
  })

  it('are told as metrics too, with the names and labels of cAdvisor', async () => {
    const { cri, image } = world
    const pod = await ownCgroup('metrics')
    const config = containerConfig('main', image, ['sleep', '1000'])
    const resources = { ...config.linux?.resources, cpuQuota: 50_000n }
    const limited = containerConfig('main', image, ['sleep', '1000'], { linux: { ...config.linux, resources } })
    const { sandboxId, containerId } = await startPod(cri, pod, limited)
    const { descriptors } = await cri.runtime.listMetricDescriptors({})
    const keysOf = new Map(descriptors.map(({ name, labelKeys }) => [name, labelKeys]))
    const { podMetrics } = await cri.runtime.listPodSandboxMetrics({})
    const chunks = await cri.stream(RuntimeServiceService.streamPodSandboxMetrics.path, Buffer.alloc(0))
    const streamed = chunks.flatMap((bytes) => StreamPodSandboxMetricsResponse.decode(bytes).podSandboxMetrics)
    for (const list of [podMetrics, streamed]) {
      const [ours, ...others] = list
      assert.deepEqual([ours?.podSandboxId, others], [sandboxId, []])
      const ofContainer = ours?.containerMetrics[0]
      assert.equal(ofContainer?.containerId, containerId)
      const labels = { pod: 'metrics', namespace: 'default', container: 'main', image, name: containerId }
      for (const { name, labelValues } of ofContainer.metrics) {
        const keys = keysOf.get(name) ?? []
        assert.equal(labelValues.length, keys.length, name)
        const found = Object.fromEntries(keys.map((key, at) => [key, labelValues[at]]))
        for (const [key, value] of Object.entries(labels)) assert.equal(found[key], value, name)
      }
      const value = (name: string) => ofContainer.metrics.find((metric) => metric.name === name)?.value?.value
      assert.equal(value('container_spec_memory_limit_bytes'), 128n * BigInt(MIB))
      assert.equal(value('container_spec_cpu_quota'), 50_000n)
      assert.equal(value('container_processes'), 1n)
      assert.equal(value('container_threads'), 1n)
      assert.ok((value('container_memory_usage_bytes') ?? 0n) > 0n && (value('container_file_descriptors') ?? 0n) > 0n)
      assert.ok(ours?.metrics.some(({ name }) => name === 'container_network_receive_bytes_total'))
      // Whole on either version of cgroups: what is missing is what this node cannot know, or has not happened.
      const told = new Set([...ofContainer.metrics, ...(ours?.metrics ?? [])].map(({ name }) => name))
      const missing = [...keysOf.keys()].filter((name) => !told.has(name))
      const mayMiss = isCgroupV2
        ? /^container_(hugetlb|blkio|fs_(reads|writes))_/
        : /^container_(hugetlb|blkio|pressure|fs_(reads|writes))_/
      assert.deepEqual(
        missing.filter((name) => !mayMiss.test(name)),
        [],
      )
    }
    await endPod('metrics', sandboxId)
  })

  it('never fail because a pod or its cgroup goes while they are read', async () => {
    const { cri } = world
    let isOver = false
    const reader = (async () => {
      while (!isOver) {
        const { stats } = await cri.runtime.listPodSandboxStats({})
        assert.ok(stats.every(({ linux }) => linux !== undefined))
        await cri.runtime.listContainerStats({})
        await cri.runtime.listPodSandboxMetrics({})
      }
    })()
    const churn = async (n: number) => {
      const { sandboxId } = await startPod(
        cri,
        await ownCgroup(`churn-${n}`),
        containerConfig('main', world.image, ['sleep', '1000']),
      )
      await endPod(`churn-${n}`, sandboxId)
    }
    await Promise.all([0, 1, 2, 3].map(churn)).finally(() => {
      isOver = true
    })
    await reader
    await world.assertNothingLeft()
  })
})
