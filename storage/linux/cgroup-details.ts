/**
 * What dashboards want to know of a cgroup beyond its use, read now and then: shares of time, throttling, peaks, limits.
 * As in cgroup-counters.ts, what a version or a host does not have is undefined.
 */
import { cgroupLayout } from './cgroup.ts'
import { type CgroupLayout, isInUnified } from './cgroup-layout.ts'
import {
  type At,
  type CgroupNumbers,
  cgroupNumbers,
  type Describe,
  numberAt,
  type Take,
  timesAt,
} from './cgroup-plan.ts'
import { names } from './number-files.ts'

/** Nanoseconds of processor time. */
export interface CpuTimes {
  readonly user: number
  readonly system: number
}

/** How often, and for how many nanoseconds, a limit on processor time has held processes back, or a burst let them run. */
export interface Throttling {
  readonly periods: number
  readonly throttledPeriods: number
  readonly throttledNs: number
  readonly burstPeriods: number | undefined
  readonly burstNs: number | undefined
}

/** Bytes, and counts. */
export interface MemoryDetails {
  readonly kernel: number | undefined
  readonly maxUsage: number | undefined
  /** How often a limit was met. */
  readonly failures: number | undefined
  readonly oomKills: number | undefined
}

/** What is told of pods too. */
export interface CgroupDetails {
  readonly cpuTimes: CpuTimes | undefined
  /** Undefined where no limit on processor time of its own holds anything back. */
  readonly throttling: Throttling | undefined
  readonly memory: MemoryDetails
}

/** What is told of containers besides. */
export interface ContainerDetails {
  /** Threads included. */
  readonly tasks: number | undefined
  /** How many tasks there may be at once; undefined when any number. */
  readonly tasksLimit: number | undefined
  /** Whether a disk may have been used. */
  readonly hasTraffic: boolean
}

/** USER_HZ, which every architecture of ours has at 100. */
const TICK_NS = 10_000_000
const US_NS = 1000

const CPU_OF_V2 = names('user_usec ', 'system_usec ')
const CPU_OF_V1 = names('user ', 'system ')
const THROTTLING = ['nr_periods ', 'nr_throttled ']
const THROTTLING_OF_V1 = names(...THROTTLING, 'throttled_time ', 'nr_bursts ', 'burst_time ')
const THROTTLING_OF_V2 = names(...THROTTLING, 'throttled_usec ', 'nr_bursts ', 'burst_usec ')
const EVENTS = names('max ', 'oom_kill ')
const OOM_KILLS = names('oom_kill ')
/** Kernels before 5.18 tell the parts only. */
const KERNEL_MEMORY = names('kernel ', 'kernel_stack ', 'pagetables ', 'percpu ', 'sock ', 'slab ')
const SERVED_OF_V1 = 'blkio.throttle.io_serviced_recursive'
const TOTAL = names('Total ')

const describe: Describe<CgroupDetails> = (layout, at) => {
  const cpuTimes = timesOf(layout, at)
  const throttling = throttlingOf(layout, at)
  const memory = isInUnified('memory', layout) ? memoryOfV2(at) : memoryOfV1(at)
  return (all, from) => ({
    cpuTimes: cpuTimes(all, from),
    throttling: throttling(all, from),
    memory: memory(all, from),
  })
}

const describeContainer: Describe<ContainerDetails> = (layout, at) => {
  const tasks = at('pids', 'pids.current')
  const tasksLimit = at('pids', 'pids.max')
  const served = isInUnified('blkio', layout) ? undefined : servedOf(at)
  return (all, from) => ({
    tasks: numberAt(all, from + tasks),
    tasksLimit: numberAt(all, from + tasksLimit),
    hasTraffic: served === undefined || served(all, from),
  })
}

const timesOf = (layout: CgroupLayout, at: At): Take<CpuTimes | undefined> => {
  const isOfV2 = isInUnified('cpuacct', layout)
  const stat = isOfV2 ? at('cpu', 'cpu.stat', CPU_OF_V2) : at('cpuacct', 'cpuacct.stat', CPU_OF_V1)
  const unit = isOfV2 ? US_NS : TICK_NS
  return (all, from) => {
    const [user, system] = [timesAt(all, from + stat, unit), timesAt(all, from + stat + 1, unit)]
    return user === undefined || system === undefined ? undefined : { user, system }
  }
}

const throttlingOf = (layout: CgroupLayout, at: At): Take<Throttling | undefined> => {
  const isOfV2 = isInUnified('cpu', layout)
  const quota = at('cpu', isOfV2 ? 'cpu.max' : 'cpu.cfs_quota_us')
  const stat = at('cpu', 'cpu.stat', isOfV2 ? THROTTLING_OF_V2 : THROTTLING_OF_V1)
  const unit = isOfV2 ? US_NS : 1
  return (all, from) => {
    const periods = numberAt(all, from + stat)
    if (periods === undefined || numberAt(all, from + quota) === undefined) return undefined
    return {
      periods,
      throttledPeriods: numberAt(all, from + stat + 1) ?? 0,
      throttledNs: timesAt(all, from + stat + 2, unit) ?? 0,
      burstPeriods: numberAt(all, from + stat + 3),
      burstNs: timesAt(all, from + stat + 4, unit),
    }
  }
}

const memoryOfV1 = (at: At): Take<MemoryDetails> => {
  const kernel = at('memory', 'memory.kmem.usage_in_bytes')
  const maxUsage = at('memory', 'memory.max_usage_in_bytes')
  const failures = at('memory', 'memory.failcnt')
  const oomKills = at('memory', 'memory.oom_control', OOM_KILLS)
  return (all, from) => ({
    kernel: numberAt(all, from + kernel),
    maxUsage: numberAt(all, from + maxUsage),
    failures: numberAt(all, from + failures),
    oomKills: numberAt(all, from + oomKills),
  })
}

const memoryOfV2 = (at: At): Take<MemoryDetails> => {
  const kernel = at('memory', 'memory.stat', KERNEL_MEMORY)
  const peak = at('memory', 'memory.peak')
  const events = at('memory', 'memory.events', EVENTS)
  return (all, from) => ({
    kernel: numberAt(all, from + kernel) ?? sumAt(all, from + kernel + 1, KERNEL_MEMORY.count - 1),
    maxUsage: numberAt(all, from + peak),
    failures: numberAt(all, from + events),
    oomKills: numberAt(all, from + events + 1),
  })
}

/** Undefined when there is none of them. */
const sumAt = (all: Float64Array, from: number, count: number): number | undefined => {
  let sum: number | undefined
  for (let at = from; at < from + count; at++) {
    const part = numberAt(all, at)
    if (part !== undefined) sum = (sum ?? 0) + part
  }
  return sum
}

/** Nearly every container has never used a disk, and a number tells it sooner than a table without lines. */
const servedOf = (at: At): Take<boolean> => {
  const total = at('blkio', SERVED_OF_V1, TOTAL)
  // Kernels before 4.10 have no recursive one.
  return (all, from) => numberAt(all, from + total) !== 0
}

const details = cgroupNumbers(describe, { isKept: false })

export const cgroupDetails = (path: string, layout = cgroupLayout()): CgroupNumbers<CgroupDetails> =>
  details(path, layout)

const ofContainer = cgroupNumbers(describeContainer, { isKept: false })

export const containerDetails = (path: string, layout = cgroupLayout()): CgroupNumbers<ContainerDetails> =>
  ofContainer(path, layout)
