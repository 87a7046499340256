/** Limits of the container's cgroup. Zero, in the CRI, means "not set". */
import type { LinuxContainerResources } from '#proto/generated/api.ts'
import type { SpecHost } from './host.ts'
import { boundedNumber, impossible, invalid, quoted } from './refuse.ts'
import type { OciResources } from './types.ts'

export type ResourceHost = Pick<SpecHost, 'cgroupVersion' | 'hugetlb' | 'swapAccounting'>

export interface ResourceSet {
  readonly resources: OciResources
  readonly warnings: readonly string[]
}

/**
 * @param pidsLimit from the configuration; the CRI has no field for it
 * @throws RuntimeError invalid-argument for values out of range, failed-precondition for limits that the host cannot keep
 */
export const resourceLimits = (
  requested: LinuxContainerResources | undefined,
  host: ResourceHost,
  pidsLimit?: number,
): ResourceSet => {
  const pids = pidsLimit !== undefined && { pids: { limit: pidsLimit } }
  if (!requested) return { resources: { ...pids }, warnings: [] }
  const warnings: string[] = []
  const cpu = cpuLimits(requested)
  const memory = memoryLimits(requested, host, warnings)
  const hugepageLimits = hugepages(requested, host)
  const unified = unifiedValues(requested, host)
  return {
    resources: {
      ...(Object.keys(cpu).length > 0 && { cpu }),
      ...(Object.keys(memory).length > 0 && { memory }),
      ...pids,
      ...(hugepageLimits.length > 0 && { hugepageLimits }),
      ...(Object.keys(unified).length > 0 && { unified }),
    },
    warnings,
  }
}

const cpuLimits = (requested: LinuxContainerResources): NonNullable<OciResources['cpu']> => {
  const { cpuPeriod, cpuQuota, cpuShares, cpusetCpus, cpusetMems } = requested
  checkSet('cpuset_cpus', cpusetCpus)
  checkSet('cpuset_mems', cpusetMems)
  return {
    // The kernel raises shares below 2 to 2 by itself.
    ...(cpuShares !== 0n && { shares: boundedNumber('cpu_shares', cpuShares, 1) }),
    ...(cpuQuota !== 0n && { quota: boundedNumber('cpu_quota', cpuQuota, -1) }),
    ...(cpuPeriod !== 0n && { period: boundedNumber('cpu_period', cpuPeriod, 1) }),
    ...(cpusetCpus !== '' && { cpus: cpusetCpus }),
    ...(cpusetMems !== '' && { mems: cpusetMems }),
  }
}

/** The kernel's -1 is no limit; the period stays, as it does no harm. */
export const withoutQuota = (resources: OciResources): OciResources => ({
  ...resources,
  cpu: { ...resources.cpu, quota: -1 },
})

const MAX_SET_CHARACTERS = 4096
const MAX_CPU = 8191

/** "0-3,7": checked as intervals, never expanded (CVE-2018-20699). */
const checkSet = (field: string, list: string): void => {
  if (list === '') return
  if (list.length > MAX_SET_CHARACTERS) throw invalid(`${field} is longer than ${MAX_SET_CHARACTERS} characters`)
  for (const part of list.split(',')) {
    const range = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part)
    const first = Number(range?.[1])
    const last = Number(range?.[2] ?? range?.[1])
    if (!range || first > last || last > MAX_CPU) throw invalid(`${field} has the part ${quoted(part)}`)
  }
}

const memoryLimits = (
  { memoryLimitInBytes, memorySwapLimitInBytes }: LinuxContainerResources,
  host: ResourceHost,
  warnings: string[],
): NonNullable<OciResources['memory']> => {
  const limit = boundedNumber('memory_limit_in_bytes', memoryLimitInBytes, -1)
  const swap = boundedNumber('memory_swap_limit_in_bytes', memorySwapLimitInBytes, -1)
  if (swap > 0 && limit <= 0) throw invalid('memory_swap_limit_in_bytes is set without memory_limit_in_bytes')
  if (swap > 0 && swap < limit)
    throw invalid(`memory_swap_limit_in_bytes ${swap} is less than the memory limit ${limit}`)
  if (limit === 0) return swap === 0 || !host.swapAccounting ? {} : { swap }
  if (!host.swapAccounting) {
    if (swap > limit) throw impossible('Cannot limit swap: the kernel does not count swap per cgroup')
    if (limit > 0) warnings.push('Swap is not limited: the kernel does not count swap per cgroup')
    return { limit }
  }
  // The OCI value is memory and swap together. Not asked for means no swap.
  return { limit, swap: swap === 0 ? limit : swap }
}

const hugepages = (
  { hugepageLimits }: LinuxContainerResources,
  host: ResourceHost,
): { pageSize: string; limit: number }[] => {
  const limits = hugepageLimits.map(({ pageSize, limit }, index) => {
    if (!/^[1-9]\d{0,5}[KMGT]?B$/.test(pageSize)) {
      throw invalid(`hugepage_limits[${index}].page_size ${quoted(pageSize)} is malformed`)
    }
    return { pageSize, limit: boundedNumber(`hugepage_limits[${index}].limit`, limit, 0) }
  })
  if (host.hugetlb) return limits
  // The kubelet sends a zero for each page size of the node; where no huge page can be had that is kept anyway.
  const wanted = limits.find(({ limit }) => limit > 0)
  if (wanted) throw impossible(`Cannot limit huge pages of ${wanted.pageSize}: the hugetlb controller is not available`)
  return []
}

const unifiedValues = ({ unified }: LinuxContainerResources, host: ResourceHost): Record<string, string> => {
  const entries = Object.entries(unified)
  if (entries.length > 0 && host.cgroupVersion === 1) {
    throw impossible('Cannot apply resources.unified: this host runs cgroup version 1')
  }
  for (const [key, value] of entries) {
    // Files of a controller only: "cgroup.*" would move processes or reach into other cgroups.
    if (!/^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$/.test(key) || key.startsWith('cgroup.')) {
      throw invalid(`resources.unified has the key ${quoted(key)}`)
    }
    if (!/^[\x20-\x7e]{1,4096}$/.test(value)) throw invalid(`resources.unified ${quoted(key)} has a malformed value`)
  }
  return Object.fromEntries(entries)
}

export interface OomScore {
  readonly value: number
  readonly warnings: readonly string[]
}

/** Always written, because a child of the daemon would else inherit the daemon's own protection. */
export const oomScoreAdj = (requested: bigint, host: Pick<SpecHost, 'canRaiseOom' | 'oomScoreAdj'>): OomScore => {
  const wanted = boundedNumber('oom_score_adj', requested, -1000, 1000)
  if (host.canRaiseOom || wanted >= host.oomScoreAdj) return { value: wanted, warnings: [] }
  const warning = `oom_score_adj ${wanted} is raised to ${host.oomScoreAdj}: the daemon lacks CAP_SYS_RESOURCE`
  return { value: host.oomScoreAdj, warnings: [warning] }
}
