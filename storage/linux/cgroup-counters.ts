/**
 * What cgroups have used, read often and many at a time: their files are kept open. Version 1 and 2 tell the same things under other
 * names; what a version or a host does not have is undefined, and so is everything of a cgroup that is gone.
 */
import { cgroupLayout } from './cgroup.ts'
import { isInUnified } from './cgroup-layout.ts'
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

export { readTogether } from './cgroup-plan.ts'

/** Of one kind of pressure: the share of time, in percent, of the last 10, 60 and 300 s, and the sum. */
export interface Stall {
  readonly avg10: number
  readonly avg60: number
  readonly avg300: number
  /** Microseconds. */
  readonly total: number
}

/** Time in which some processes, or all of them at once, waited. Kernels before 5.13 have no `full` for the processor. */
export interface Pressure {
  readonly some: Stall
  readonly full: Stall | undefined
}

/** Bytes, unless said otherwise; of the cgroup and all below it. */
export interface MemoryUse {
  readonly usage: number
  /** All but the file cache that nobody has used lately: what the kubelet evicts by. */
  readonly workingSet: number
  readonly rss: number
  readonly cache: number
  readonly mappedFile: number
  readonly activeFile: number
  readonly inactiveFile: number
  /** Counts. */
  readonly pageFaults: number
  readonly majorPageFaults: number
  /** The cgroup's own; those above it may have a lower one. */
  readonly limit: number | undefined
  /** Anonymous memory that is on a swap device, and how much may be; undefined on a host that does not count it. */
  readonly swap: { readonly usage: number; readonly limit: number | undefined } | undefined
}

export type PressureKind = 'cpu' | 'memory' | 'io'

export interface CgroupUse {
  /** Nanoseconds of processor time. */
  readonly cpuNs: number | undefined
  readonly memory: MemoryUse | undefined
  /** Threads included; undefined also when they are not counted. */
  readonly tasks: number | undefined
  /** Only version 2 has it, and only with a kernel that was told to. */
  readonly pressure: Readonly<Record<PressureKind, Pressure | undefined>>
}

/** Of the two versions' `memory.stat`, in the order in which `memoryUse` takes them. */
const STAT_OF_V1 = names(
  'total_cache ',
  'total_rss ',
  'total_mapped_file ',
  'total_inactive_file ',
  'total_active_file ',
  'total_pgfault ',
  'total_pgmajfault ',
  'total_swap ',
)
const SWAP_OF_V1 = 7
const STAT_OF_V2 = names('file ', 'anon ', 'file_mapped ', 'inactive_file ', 'active_file ', 'pgfault ', 'pgmajfault ')
const USAGE_USEC = names('usage_usec ')
const STALL = [' avg60=', ' avg300=', ' total=']
const PRESSURE = names('some avg10=', ...STALL, 'full avg10=', ...STALL)
const FULL = 1 + STALL.length
const US_NS = 1000

const describe =
  (countsTasks: boolean): Describe<CgroupUse> =>
  (layout, at) => {
    const isOfV2 = isInUnified('cpuacct', layout)
    const cpu = isOfV2 ? at('cpu', 'cpu.stat', USAGE_USEC) : at('cpuacct', 'cpuacct.usage')
    const memory = isInUnified('memory', layout) ? memoryOfV2(at) : memoryOfV1(at)
    const tasks = countsTasks ? at('pids', 'pids.current') : undefined
    const pressure = layout.version === 2 ? pressures(at) : () => NO_PRESSURE
    return (all, from) => ({
      cpuNs: timesAt(all, from + cpu, isOfV2 ? US_NS : 1),
      memory: memory(all, from),
      tasks: tasks === undefined ? undefined : numberAt(all, from + tasks),
      pressure: pressure(all, from),
    })
  }

const memoryOfV2 = (at: At): Take<MemoryUse | undefined> => {
  const usage = at('memory', 'memory.current')
  const stat = at('memory', 'memory.stat', STAT_OF_V2)
  const limit = at('memory', 'memory.max')
  const swap = at('memory', 'memory.swap.current')
  const swapLimit = at('memory', 'memory.swap.max')
  return (all, from) => {
    const used = numberAt(all, from + usage)
    if (used === undefined) return undefined
    const swapped = numberAt(all, from + swap)
    return memoryUse(all, from + stat, used, {
      limit: numberAt(all, from + limit),
      swap: swapped === undefined ? undefined : { usage: swapped, limit: numberAt(all, from + swapLimit) },
    })
  }
}

const memoryOfV1 = (at: At): Take<MemoryUse | undefined> => {
  const usage = at('memory', 'memory.usage_in_bytes')
  const stat = at('memory', 'memory.stat', STAT_OF_V1)
  const limit = at('memory', 'memory.limit_in_bytes')
  // For memory and swap together; not there on a host that does not count swap.
  const both = at('memory', 'memory.memsw.limit_in_bytes')
  return (all, from) => {
    const used = numberAt(all, from + usage)
    if (used === undefined) return undefined
    const [own, together] = [numberAt(all, from + limit), numberAt(all, from + both)]
    const swapped = numberAt(all, from + stat + SWAP_OF_V1)
    const swapLimit = own === undefined || together === undefined ? undefined : Math.max(0, together - own)
    return memoryUse(all, from + stat, used, {
      limit: own,
      swap: swapped === undefined ? undefined : { usage: swapped, limit: swapLimit },
    })
  }
}

const memoryUse = (
  all: Float64Array,
  stat: number,
  usage: number,
  limits: Pick<MemoryUse, 'limit' | 'swap'>,
): MemoryUse => {
  const inactiveFile = numberAt(all, stat + 3) ?? 0
  return {
    usage,
    workingSet: Math.max(0, usage - inactiveFile),
    rss: numberAt(all, stat + 1) ?? 0,
    cache: numberAt(all, stat) ?? 0,
    mappedFile: numberAt(all, stat + 2) ?? 0,
    activeFile: numberAt(all, stat + 4) ?? 0,
    inactiveFile,
    pageFaults: numberAt(all, stat + 5) ?? 0,
    majorPageFaults: numberAt(all, stat + 6) ?? 0,
    limit: limits.limit,
    swap: limits.swap,
  }
}

const NO_PRESSURE: CgroupUse['pressure'] = { cpu: undefined, memory: undefined, io: undefined }

const pressures = (at: At): Take<CgroupUse['pressure']> => {
  const cpu = at('cpu', 'cpu.pressure', PRESSURE)
  const memory = at('memory', 'memory.pressure', PRESSURE)
  const io = at('io', 'io.pressure', PRESSURE)
  return (all, from) => ({
    cpu: pressureAt(all, from + cpu),
    memory: pressureAt(all, from + memory),
    io: pressureAt(all, from + io),
  })
}

const pressureAt = (all: Float64Array, at: number): Pressure | undefined => {
  const some = stallAt(all, at)
  return some && { some, full: stallAt(all, at + FULL) }
}

const stallAt = (all: Float64Array, at: number): Stall | undefined => {
  const total = numberAt(all, at + 3)
  if (total === undefined) return undefined
  return {
    avg10: numberAt(all, at) ?? 0,
    avg60: numberAt(all, at + 1) ?? 0,
    avg300: numberAt(all, at + 2) ?? 0,
    total,
  }
}

export type CgroupCounters = CgroupNumbers<CgroupUse>

const counters = cgroupNumbers(describe(false), { isKept: true })
const countersAndTasks = cgroupNumbers(describe(true), { isKept: true })

/**
 * The counters of a cgroup, as in cgroup.ts; it need not exist. On this host unless a test gives a layout of its own.
 * @param countsTasks whether somebody wants to know how many tasks there are
 */
export const cgroupCounters = (path: string, countsTasks: boolean, layout = cgroupLayout()): CgroupCounters =>
  (countsTasks ? countersAndTasks : counters)(path, layout)
