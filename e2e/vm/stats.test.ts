/** Statistics and metrics on a node with cgroup version 2 and systemd: pressure, swap, limits of the pod's slice. */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { removePod, until } from '../pods.ts'
import { leftoversOf, startNodePod, useNode } from './node.ts'
import { readCgroup, scopePath, systemctl } from './systemd.ts'

/** Two that want the same processor time: one of them waits. */
const BUSY = ['sh', '-c', 'while :; do :; done & while :; do :; done & wait']

describe('statistics on cgroup version 2', () => {
  const node = useNode()

  it('tell pressure, and the same as the files of the cgroup', async () => {
    const { runtime } = node.cri
    const resources = { cpuPeriod: 100_000n, cpuQuota: 20_000n, memoryLimitInBytes: 67_108_864n }
    const pod = await startNodePod(node, 'pressed', BUSY, { container: { linux: { resources } } })
    const { containerId, sandboxId } = pod
    const pressed = await until('processes have waited for a processor', 120_000, async () => {
      const { stats } = await runtime.containerStats({ containerId })
      return (stats?.cpu?.psi?.Some?.Total ?? 0n) > 1_000_000_000n ? stats : undefined
    })
    const file = await readCgroup(scopePath(pod.slice, containerId), 'cpu.pressure')
    const totalUs = BigInt(/some .*total=(\d+)/.exec(file)?.[1] ?? 0)
    // Nanoseconds, and read before the file was.
    assert.ok((pressed.cpu?.psi?.Some?.Total ?? 0n) <= totalUs * 1000n)
    assert.ok(pressed.cpu?.psi?.Full && pressed.memory?.psi?.Some && pressed.io?.psi?.Some)
    assert.ok((pressed.cpu?.usageNanoCores?.value ?? 0n) > 0n)
    const { workingSetBytes, availableBytes, rssBytes, pageFaults } = pressed.memory ?? {}
    assert.equal((workingSetBytes?.value ?? 0n) + (availableBytes?.value ?? 0n), 67_108_864n)
    assert.ok(rssBytes?.value && pageFaults?.value)

    const { stats } = await runtime.podSandboxStats({ podSandboxId: sandboxId })
    const { cpu, memory, io, process, network, containers } = stats?.linux ?? {}
    assert.ok((cpu?.psi?.Some?.Total ?? 0n) > 0n && memory?.psi && io?.psi && memory.workingSetBytes?.value)
    assert.ok((cpu?.usageCoreNanoSeconds?.value ?? 0n) >= (containers?.[0]?.cpu?.usageCoreNanoSeconds?.value ?? 0n))
    assert.equal(process?.processCount?.value, 3n)
    assert.equal(network?.defaultInterface?.name, 'eth0')

    const { podMetrics } = await runtime.listPodSandboxMetrics({})
    const ours = podMetrics.find(({ podSandboxId }) => podSandboxId === sandboxId)
    const value = (name: string) => ours?.containerMetrics[0]?.metrics.find((each) => each.name === name)?.value?.value
    for (const kind of ['cpu', 'memory', 'io'])
      for (const how of ['waiting', 'stalled'])
        assert.notEqual(value(`container_pressure_${kind}_${how}_seconds_total`), undefined, `${kind} ${how}`)
    assert.ok((value('container_cpu_cfs_throttled_periods_total') ?? 0n) > 0n)
    assert.ok((value('container_memory_max_usage_bytes') ?? 0n) > 0n)
    assert.equal(value('container_processes'), 3n)
    assert.ok(
      ours?.metrics.some(({ name }) => name === 'container_cpu_usage_seconds_total'),
      'the pod as a whole',
    )

    await removePod(node.cri, sandboxId)
    await systemctl('stop', pod.slice)
    assert.deepEqual(await leftoversOf(node), [])
  })

  it('are told as metrics: each that was promised, of the container and of its pod', async () => {
    const { runtime } = node.cri
    const resources = { cpuPeriod: 100_000n, cpuQuota: 50_000n, memoryLimitInBytes: 67_108_864n }
    // Past the page cache, so that a disk is read and written in the container's own name.
    const script = [
      'dd if=/dev/zero of=/file bs=64k count=16 conv=fsync',
      'dd if=/file of=/dev/null bs=64k iflag=direct',
      'touch /done',
      'sleep 1000',
    ].join('; ')
    const pod = await startNodePod(node, 'metrics', ['sh', '-c', script], { container: { linux: { resources } } })
    const { sandboxId, containerId } = pod
    await until('the disk was used', 60_000, async () => {
      const { exitCode } = await runtime.execSync({ containerId, cmd: ['test', '-e', '/done'], timeout: 30n })
      return exitCode === 0 || undefined
    })

    const { descriptors } = await runtime.listMetricDescriptors({})
    const labelsOf = new Map(descriptors.map(({ name, labelKeys }) => [name, labelKeys]))
    const { podMetrics } = await runtime.listPodSandboxMetrics({})
    const ours = podMetrics.find(({ podSandboxId }) => podSandboxId === sandboxId)
    const [ofContainer] = ours?.containerMetrics ?? []
    const told = new Map([...(ours?.metrics ?? []), ...(ofContainer?.metrics ?? [])].map((each) => [each.name, each]))
    for (const { name, labelValues } of told.values())
      assert.equal(labelValues.length, labelsOf.get(name)?.length, `labels of ${name}`)
    // systemd hands no huge pages to its scopes: then the kernel does not count them.
    const missing = [...labelsOf.keys()].filter((name) => !told.has(name) && !name.startsWith('container_hugetlb_'))
    assert.deepEqual(missing, [])

    const value = (name: string) => told.get(name)?.value?.value ?? 0n
    assert.ok(value('container_fs_writes_bytes_total') >= 1_048_576n)
    assert.ok(value('container_fs_reads_bytes_total') >= 1_048_576n)
    const device = (name: string) => told.get(name)?.labelValues[labelsOf.get(name)?.indexOf('device') ?? -1]
    assert.deepEqual([device('container_fs_reads_total'), device('container_fs_limit_bytes')], ['/dev/vda', '/dev/vda'])
    assert.equal(value('container_spec_memory_limit_bytes'), 67_108_864n)
    assert.ok(value('container_memory_kernel_usage') > 0n)
    const ofPod = ours?.metrics.map(({ name }) => name) ?? []
    const wanted = ['cpu_usage_seconds', 'memory_failures', 'pressure_io_stalled_seconds', 'network_receive_bytes']
    for (const what of wanted) assert.ok(ofPod.includes(`container_${what}_total`), what)

    await removePod(node.cri, sandboxId)
    await systemctl('stop', pod.slice)
    assert.deepEqual(await leftoversOf(node), [])
  })
})
