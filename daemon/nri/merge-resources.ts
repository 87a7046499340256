/** Lays the limits that a plugin wants over those that are there, field by field, and notes who set each. */
import { Field, type HugepageLimit, LinuxCPU, LinuxMemory, LinuxResources } from '#proto/generated/nri.ts'
import type { Owners } from './owners.ts'

export interface Claimant {
  readonly owners: Owners
  readonly container: string
  readonly plugin: string
}

const MEMORY: readonly (readonly [keyof LinuxMemory, Field])[] = [
  ['limit', Field.MemLimit],
  ['reservation', Field.MemReservation],
  ['swap', Field.MemSwapLimit],
  ['kernel', Field.MemKernelLimit],
  ['kernelTcp', Field.MemTCPLimit],
  ['swappiness', Field.MemSwappiness],
  ['disableOomKiller', Field.MemDisableOomKiller],
  ['useHierarchy', Field.MemUseHierarchy],
]

const CPU: readonly (readonly [keyof LinuxCPU, Field])[] = [
  ['shares', Field.CPUShares],
  ['quota', Field.CPUQuota],
  ['period', Field.CPUPeriod],
  ['realtimeRuntime', Field.CPURealtimeRuntime],
  ['realtimePeriod', Field.CPURealtimePeriod],
  ['cpus', Field.CPUSetCPUs],
  ['mems', Field.CPUSetMems],
]

/** @returns `base` with what `wanted` has. @throws RuntimeError failed-precondition for what another plugin has set */
export function mergeResources(
  base: LinuxResources | undefined,
  wanted: LinuxResources,
  claimant: Claimant,
): LinuxResources {
  const claim = (field: Field, entry?: string) =>
    claimant.owners.claim(claimant.container, field, claimant.plugin, entry)
  const merged = LinuxResources.create({ ...base })
  if (wanted.memory) merged.memory = overlay(LinuxMemory.create({ ...merged.memory }), wanted.memory, MEMORY, claim)
  if (wanted.cpu) merged.cpu = overlay(LinuxCPU.create({ ...merged.cpu }), wanted.cpu, CPU, claim)
  for (const { pageSize } of wanted.hugepageLimits) claim(Field.HugepageLimits, pageSize)
  merged.hugepageLimits = bySize([...merged.hugepageLimits, ...wanted.hugepageLimits])
  for (const file of Object.keys(wanted.unified)) claim(Field.CgroupsUnified, file)
  merged.unified = { ...merged.unified, ...wanted.unified }
  merged.devices = [...merged.devices, ...wanted.devices]
  if (wanted.blockioClass) claim(Field.BlockioClass)
  merged.blockioClass = wanted.blockioClass ?? merged.blockioClass
  if (wanted.rdtClass) claim(Field.RdtClass)
  merged.rdtClass = wanted.rdtClass ?? merged.rdtClass
  if (wanted.pids) claim(Field.PidsLimit)
  merged.pids = wanted.pids ?? merged.pids
  return merged
}

function overlay<T extends object>(
  target: T,
  wanted: T,
  fields: readonly (readonly [keyof T, Field])[],
  claim: (field: Field) => void,
): T {
  for (const [key, field] of fields) {
    // The texts among them are "" when they are not set.
    if (wanted[key] === undefined || wanted[key] === '') continue
    claim(field)
    target[key] = wanted[key]
  }
  return target
}

const bySize = (limits: readonly HugepageLimit[]): HugepageLimit[] => [
  ...new Map(limits.map((limit) => [limit.pageSize, limit])).values(),
]
