/**
 * GOMAXPROCS for containers that have a CPU request and no limit: Go sees all processors of the node there, starts as many
 * threads, and is throttled by its neighbours. Where there is a limit, Go 1.25 finds it out by itself, and follows when it changes.
 */
import type { LinuxContainerResources } from '#proto/generated/api.ts'

export interface GomaxprocsInput {
  /** The least value; 0: nothing is ever set. */
  readonly floor: number
  readonly resources: LinuxContainerResources | undefined
  /** The processors of the node, beyond which no value makes sense. */
  readonly cpus: number
  /** Whether the pod asked to be left alone. */
  readonly skip: string | undefined
}

/** What the kubelet makes of one CPU. */
const SHARES_PER_CPU = 1024n

/** Twice the request, so that a container can use what its neighbours leave; undefined: the variable is not set. */
export const gomaxprocs = ({ floor, resources, cpus, skip }: GomaxprocsInput): string | undefined => {
  if (floor === 0 || skip === 'true') return undefined
  // A limit, or processors of its own: the container sees what it has.
  if (resources && (resources.cpuQuota > 0n || resources.cpusetCpus !== '')) return undefined
  const twice = Number(((resources?.cpuShares ?? 0n) * 2n + SHARES_PER_CPU - 1n) / SHARES_PER_CPU)
  return String(Math.max(1, Math.min(Math.max(twice, floor), cpus)))
}
