/** The paths below /proc and /sys that a container must not see, or must not change. */
import type { LinuxContainerSecurityContext } from '#proto/generated/api.ts'
import type { SpecHost } from './host.ts'
import { absolutePath } from './refuse.ts'

/** They tell of other pods and of the hardware (keys, timings, physical memory), or steer it. */
export const MASKED_PATHS: readonly string[] = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
  '/sys/fs/selinux',
]

export const READONLY_PATHS: readonly string[] = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
]

export interface ProtectedPaths {
  readonly masked: readonly string[]
  readonly readonly: readonly string[]
}

/**
 * The request's lists and ours. An empty list of the request is the pod's procMount "Unmasked", which Kubernetes allows
 * only with a user namespace of the pod's own; without one it means that the client did not care, and ours holds.
 */
export const protectedPaths = (
  security: LinuxContainerSecurityContext | undefined,
  host: Pick<SpecHost, 'thermalThrottlePaths'>,
  hasUserNamespace: boolean,
): ProtectedPaths => {
  if (security?.privileged) return { masked: [], readonly: [] }
  const merge = (field: string, given: readonly string[], ours: readonly string[]): string[] => {
    if (security && hasUserNamespace && given.length === 0) return []
    return [...new Set([...given.map((path, index) => absolutePath(`${field}[${index}]`, path)), ...ours])]
  }
  return {
    masked: merge('masked_paths', security?.maskedPaths ?? [], [...MASKED_PATHS, ...host.thermalThrottlePaths]),
    readonly: merge('readonly_paths', security?.readonlyPaths ?? [], READONLY_PATHS),
  }
}
