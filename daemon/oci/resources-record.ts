/**
 * The limits of a container or a pod as they are written down when a later request changes them, and how such a request is
 * laid over what is in force: a field that it leaves at zero changes nothing (api.proto, UpdateContainerResources).
 */
import * as z from 'zod'
import { type HugepageLimit, LinuxContainerResources } from '#proto/generated/api.ts'
import { bigintText } from '../records/schema.ts'

/** `LinuxContainerResources` in readable JSON, numbers as decimal strings. */
export const resourcesRecord = z.object({
  cpuPeriod: bigintText,
  cpuQuota: bigintText,
  cpuShares: bigintText,
  memoryLimitInBytes: bigintText,
  memorySwapLimitInBytes: bigintText,
  oomScoreAdj: bigintText,
  cpusetCpus: z.string(),
  cpusetMems: z.string(),
  hugepageLimits: z.array(z.object({ pageSize: z.string(), limit: bigintText })),
  unified: z.record(z.string(), z.string()),
})

export const noResources = (): LinuxContainerResources => LinuxContainerResources.fromPartial({})

/**
 * What is in force after `change` on top of `current`. The OOM score is of the process, not of its cgroup: it stays what
 * the container was created with.
 */
export function mergeResources(
  current: LinuxContainerResources,
  change: LinuxContainerResources,
): LinuxContainerResources {
  const memoryLimitInBytes = change.memoryLimitInBytes || current.memoryLimitInBytes
  return {
    cpuPeriod: change.cpuPeriod || current.cpuPeriod,
    cpuQuota: change.cpuQuota || current.cpuQuota,
    cpuShares: change.cpuShares || current.cpuShares,
    memoryLimitInBytes,
    memorySwapLimitInBytes: change.memorySwapLimitInBytes || swapInForce(current, memoryLimitInBytes),
    oomScoreAdj: current.oomScoreAdj,
    cpusetCpus: change.cpusetCpus || current.cpusetCpus,
    cpusetMems: change.cpusetMems || current.cpusetMems,
    hugepageLimits: mergeHugepages(current.hugepageLimits, change.hugepageLimits),
    unified: { ...current.unified, ...change.unified },
  }
}

/** The value is memory and swap together: a container without swap stays without when only its memory changes. */
function swapInForce(current: LinuxContainerResources, newLimit: bigint): bigint {
  const { memoryLimitInBytes, memorySwapLimitInBytes } = current
  return memorySwapLimitInBytes === memoryLimitInBytes && memorySwapLimitInBytes !== 0n
    ? newLimit
    : memorySwapLimitInBytes
}

function mergeHugepages(current: readonly HugepageLimit[], change: readonly HugepageLimit[]): HugepageLimit[] {
  const bySize = new Map([...current, ...change].map(({ pageSize, limit }) => [pageSize, limit]))
  return [...bySize].map(([pageSize, limit]) => ({ pageSize, limit }))
}
