/** Readings of the pods and containers that run, for metrics. What vanishes while it is read is left out. */
import type { InterfaceCounters } from '#linux/net-counters.ts'
import { messageOf } from '#proto/errors.ts'
import { type Container, resourcesOf } from '../container/container.ts'
import type { SpecHost } from '../oci/spec/host.ts'
import type { Parts } from '../parts.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import { liveContainers, type StatsNeeds } from '../stats/container-stats.ts'
import { ownsItsCgroup } from '../stats/sandbox-cgroups.ts'
import { readySandboxes, sandboxOf } from '../stats/sandbox-stats.ts'
import { type CgroupReading, cgroupFamilies } from './cgroup-families.ts'
import {
  type ContainerReading,
  containerFamilies,
  hugePageFailures,
  type LayerFilesystem,
} from './container-families.ts'
import type { Family } from './family.ts'
import { networkFamilies } from './network-families.ts'

export type MetricsNeeds = StatsNeeds & Pick<Parts, 'linux' | 'log'>

/** A container with its reading, and where it was read. */
export interface ContainerMetrics {
  readonly container: Container
  readonly cgroup: string
  readonly reading: ContainerReading
}

export interface SandboxMetrics {
  readonly sandbox: Sandbox
  /** Undefined for a pod without a cgroup of its own. */
  readonly whole: { readonly cgroup: string; readonly reading: CgroupReading } | undefined
  readonly interfaces: readonly InterfaceCounters[]
  readonly containers: readonly ContainerMetrics[]
}

/** All families of this host, for the descriptors. */
export function familiesOf({ hugetlb }: Pick<SpecHost, 'hugetlb'>): readonly Omit<Family<never>, 'samples'>[] {
  const some = hugetlb ? [hugePageFailures] : []
  return [...cgroupFamilies, ...containerFamilies, ...some, ...networkFamilies]
}

/** Of every pod that is ready, one by one: reading them all at once would keep others waiting. */
export async function* collectMetrics(needs: MetricsNeeds): AsyncGenerator<SandboxMetrics> {
  needs.stats.asked()
  const owns = ownsItsCgroup(needs.sandboxes.all())
  const network = needs.stats.networks.reader()
  const containers = Map.groupBy(liveContainers(needs), sandboxOf)
  const filesystem = layerFilesystem(needs)
  for (const sandbox of readySandboxes(needs)) {
    // It may have been stopped while others were read.
    if (sandbox.status.state !== 'ready') continue
    const cgroup = owns(sandbox) ? needs.stats.cgroupsOf(sandbox).pod : undefined
    const interfaces = network(sandbox)?.interfaces ?? []
    const whole = cgroup === undefined ? undefined : { cgroup, reading: readCgroup(needs, cgroup) }
    const own: ContainerMetrics[] = []
    for (const container of containers.get(sandbox.record.id) ?? []) {
      const read = await tryRead(needs, container, filesystem)
      if (read) own.push(read)
    }
    yield { sandbox, whole, interfaces, containers: own }
  }
}

function layerFilesystem({ linux, storage }: MetricsNeeds): LayerFilesystem {
  return { device: linux.deviceOf(storage.root), stat: linux.statfs(storage.root) }
}

/** No list fails for the sake of one container. */
async function tryRead(
  needs: MetricsNeeds,
  container: Container,
  filesystem: LayerFilesystem,
): Promise<ContainerMetrics | undefined> {
  try {
    return await readContainer(needs, container, filesystem)
  } catch (error) {
    needs.log.warn('Cannot read the metrics of a container', { container: container.record.id, why: messageOf(error) })
    return undefined
  }
}

async function readContainer(
  needs: MetricsNeeds,
  container: Container,
  filesystem: LayerFilesystem,
): Promise<ContainerMetrics> {
  const { linux, stats, storage } = needs
  const { record, status } = container
  const cgroup = stats.cgroupOf(container)
  const meter = stats.meters.of(cgroup)
  const pids = linux.cgroupProcesses(cgroup)
  const startedNs = 'startedAt' in status && status.startedAt !== undefined ? status.startedAt : record.createdAt
  const reading: ContainerReading = {
    ...readCgroup(needs, cgroup),
    atMs: Date.now(),
    startedMs: Number(startedNs / 1_000_000n),
    resources: resourcesOf(container),
    writableLayer: storage.rootfs.usageOf(record.id),
    filesystem,
    traffic: linux
      .deviceTraffic(cgroup)
      .map((each) => ({ ...each, device: linux.blockDeviceName(each.major, each.minor) })),
    hugePages: linux.hugePageUse(cgroup),
    processes: pids.length,
    threads: meter.counters.tasks() ?? pids.length,
    threadsLimit: linux.tasksLimit(cgroup),
    openFilesLimit: 'init' in status && status.init ? linux.softOpenFilesLimit(status.init.pid) : undefined,
    open: await linux.countDescriptors(pids),
  }
  return { container, cgroup, reading }
}

function readCgroup({ linux, stats }: MetricsNeeds, cgroup: string): CgroupReading {
  const { counters } = stats.meters.of(cgroup)
  return {
    cpuNs: counters.cpuUsage(),
    cpuTimes: linux.cpuTimes(cgroup),
    throttling: linux.hasCpuQuota(cgroup) ? linux.throttling(cgroup) : undefined,
    memory: counters.memory(),
    memoryDetails: linux.memoryDetails(cgroup),
    pressure: { cpu: counters.pressure('cpu'), memory: counters.pressure('memory'), io: counters.pressure('io') },
  }
}
