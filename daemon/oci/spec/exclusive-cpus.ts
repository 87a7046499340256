/**
 * The processors that a container has for itself. The kubelet does not say so, but only its CPU manager gives out whole ones:
 * as many as the request counts, to a guaranteed pod. The shared pool, which others get as their cpuset, never counts.
 */
import type { LinuxContainerResources } from '#proto/generated/api.ts'
import { type CpuSet, parseCpuList } from '../cpu-list.ts'

const SHARES_PER_CPU = 1024

/** @param cgroupParent of the pod, whose name tells the class of service; undefined: none of its own */
export const exclusiveCpus = (
  resources: LinuxContainerResources | undefined,
  cgroupParent: string,
): CpuSet | undefined => {
  if (/burstable|besteffort/.test(cgroupParent)) return undefined
  const cpus = parseCpuList(resources?.cpusetCpus ?? '')
  if (!cpus || cpus.size === 0) return undefined
  return Number(resources?.cpuShares ?? 0) === cpus.size * SHARES_PER_CPU ? cpus : undefined
}
