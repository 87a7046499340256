/** Readings of the pods and containers that run, for metrics. What vanishes while it is read is left out. */
import type { CgroupUse } from '#linux/cgroup-counters.ts'
import type { CgroupDetails, ContainerDetails } from '#linux/cgroup-details.ts'
import type { InterfaceCounters } from '#linux/net-counters.ts'
import { messageOf } from '#proto/errors.ts'
import { type Container, isLive, resourcesOf } from '../container/container.ts'
import type { SpecHost } from '../oci/spec/host.ts'
import type { Parts } from '../parts.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import { liveContainers, meterOf, type StatsNeeds } from '../stats/container-stats.ts'
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
    const interfaces = network(sandbox)?.interfaces ?? []
    const pod = owns(sandbox) ? needs.stats.cgroupsOf(sandbox).pod : undefined
    const own = (containers.get(sandbox.record.id) ?? []).filter(isLive)
    yield { sandbox, interfaces, ...(await tryRead(needs, sandbox, pod, own, filesystem)) }
  }
}

function layerFilesystem({ linux, storage }: MetricsNeeds): LayerFilesystem {
  return { device: linux.deviceOf(storage.root), stat: linux.statfs(storage.root) }
}

type OfCgroups = Pick<SandboxMetrics, 'whole' | 'containers'>

/** No list fails for the sake of one pod. */
async function tryRead(
  needs: MetricsNeeds,
  sandbox: Sandbox,
  pod: string | undefined,
  containers: readonly Container[],
  filesystem: LayerFilesystem,
): Promise<OfCgroups> {
  try {
    return await readPod(needs, pod, containers, filesystem)
  } catch (error) {
    needs.log.warn('Cannot read the metrics of a pod', { sandbox: sandbox.record.id, why: messageOf(error) })
    return { whole: undefined, containers: [] }
  }
}

/** @param pod its cgroup, if it has one of its own */
async function readPod(
  needs: MetricsNeeds,
  pod: string | undefined,
  containers: readonly Container[],
  filesystem: LayerFilesystem,
): Promise<OfCgroups> {
  const { linux, stats } = needs
  const cgroups = containers.map((container) => stats.cgroupOf(container))
  const meters = containers.map((container) => meterOf(needs, container))
  if (pod !== undefined) {
    cgroups.push(pod)
    meters.push(stats.meters.ofPod(pod))
  }
  const uses = linux.readTogether(meters.map(({ counters }) => counters))
  const details = linux.readTogether(cgroups.map((cgroup) => linux.cgroupDetails(cgroup)))
  const further = linux.readTogether(containers.map((container) => linux.containerDetails(stats.cgroupOf(container))))
  const readings = cgroups.flatMap((cgroup, index): Read[] => {
    const [use, detail] = [uses[index], details[index]]
    return use && detail ? [{ cgroup, use, detail }] : []
  })
  const whole = pod === undefined ? undefined : readings.pop()
  const own: ContainerMetrics[] = []
  for (const [index, container] of containers.entries()) {
    const [read, more] = [readings[index], further[index]]
    if (read && more) own.push(await readContainer(needs, container, { ...read, more }, filesystem))
  }
  return { whole: whole && { cgroup: whole.cgroup, reading: readingOf(whole) }, containers: own }
}

interface Read {
  readonly cgroup: string
  readonly use: CgroupUse
  readonly detail: CgroupDetails
}

const readingOf = ({ use: { cpuNs, memory, pressure }, detail }: Read): CgroupReading => ({
  cpuNs,
  cpuTimes: detail.cpuTimes,
  throttling: detail.throttling,
  memory,
  memoryDetails: detail.memory,
  pressure,
})

async function readContainer(
  { linux, storage }: MetricsNeeds,
  container: Container,
  read: Read & { readonly more: ContainerDetails },
  filesystem: LayerFilesystem,
): Promise<ContainerMetrics> {
  const { record, status } = container
  const { cgroup, more } = read
  const pids = linux.cgroupProcesses(cgroup)
  const startedNs = 'startedAt' in status && status.startedAt !== undefined ? status.startedAt : record.createdAt
  const traffic = more.hasTraffic ? linux.deviceTraffic(cgroup) : []
  const reading: ContainerReading = {
    ...readingOf(read),
    atMs: Date.now(),
    startedMs: Number(startedNs / 1_000_000n),
    resources: resourcesOf(container),
    writableLayer: storage.rootfs.usageOf(record.id),
    filesystem,
    traffic: traffic.map((each) => ({ ...each, device: linux.blockDeviceName(each.major, each.minor) })),
    hugePages: linux.hugePageUse(cgroup),
    processes: pids.length,
    threads: more.tasks ?? pids.length,
    threadsLimit: more.tasksLimit,
    openFilesLimit: 'init' in status && status.init ? linux.softOpenFilesLimit(status.init.pid) : undefined,
    open: await linux.countDescriptors(pids),
  }
  return { container, cgroup, reading }
}
