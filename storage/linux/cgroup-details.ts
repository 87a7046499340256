/**
 * What dashboards want to know of a cgroup beyond its use, read now and then: shares of time, throttling, disks, huge pages, peaks.
 * As in cgroup-counters.ts, what a version or a host does not have is undefined.
 */
import { readdirSync } from 'node:fs'
import { cgroupDirectory, cgroupLayout, readCgroupFile } from './cgroup.ts'
import { isInUnified } from './cgroup-counters.ts'
import type { CgroupLayout } from './cgroup-layout.ts'
import { fieldIn, numberIn } from './counter-text.ts'

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

/** What went to or came from one block device. */
export interface DeviceTraffic {
  readonly major: number
  readonly minor: number
  readonly readBytes: number
  readonly writeBytes: number
  readonly reads: number
  readonly writes: number
}

/** Bytes of huge pages of one size, such as "2MB". */
export interface HugePageUse {
  readonly size: string
  readonly usage: number
  /** Version 1 only. */
  readonly maxUsage: number | undefined
  readonly failures: number
}

/** Bytes, and counts. */
export interface MemoryDetails {
  readonly kernel: number | undefined
  readonly maxUsage: number | undefined
  /** How often a limit was met. */
  readonly failures: number | undefined
  readonly oomKills: number | undefined
}

/** USER_HZ, which every architecture of ours has at 100. */
const TICK_NS = 10_000_000

const read = readCgroupFile

export const cpuTimes = (path: string, layout = cgroupLayout()): CpuTimes | undefined => {
  if (isInUnified('cpuacct', layout)) {
    const stat = read('cpu', path, 'cpu.stat', layout)
    return times(fieldIn(stat, 'user_usec'), fieldIn(stat, 'system_usec'), 1000)
  }
  const user = numberIn(read('cpuacct', path, 'cpuacct.usage_user', layout))
  const system = numberIn(read('cpuacct', path, 'cpuacct.usage_sys', layout))
  if (user !== undefined && system !== undefined) return { user, system }
  const stat = read('cpuacct', path, 'cpuacct.stat', layout)
  return times(fieldIn(stat, 'user'), fieldIn(stat, 'system'), TICK_NS)
}

const times = (user: number | undefined, system: number | undefined, unitNs: number): CpuTimes | undefined =>
  user === undefined || system === undefined ? undefined : { user: user * unitNs, system: system * unitNs }

export const throttling = (path: string, layout = cgroupLayout()): Throttling | undefined => {
  const v2 = isInUnified('cpu', layout)
  const stat = read('cpu', path, 'cpu.stat', layout)
  const periods = fieldIn(stat, 'nr_periods')
  if (periods === undefined) return undefined
  const nanoseconds = (field: string) => {
    const value = fieldIn(stat, v2 ? `${field}_usec` : `${field}_time`)
    return value === undefined || !v2 ? value : value * 1000
  }
  return {
    periods,
    throttledPeriods: fieldIn(stat, 'nr_throttled') ?? 0,
    throttledNs: nanoseconds('throttled') ?? 0,
    burstPeriods: fieldIn(stat, 'nr_bursts'),
    burstNs: nanoseconds('burst'),
  }
}

/** Whether the cgroup has a limit on processor time of its own. */
export const hasCpuQuota = (path: string, layout = cgroupLayout()): boolean => {
  const v2 = isInUnified('cpu', layout)
  return numberIn(read('cpu', path, v2 ? 'cpu.max' : 'cpu.cfs_quota_us', layout)) !== undefined
}

export const memoryDetails = (path: string, layout = cgroupLayout()): MemoryDetails => {
  if (!isInUnified('memory', layout)) {
    return {
      kernel: numberIn(read('memory', path, 'memory.kmem.usage_in_bytes', layout)),
      maxUsage: numberIn(read('memory', path, 'memory.max_usage_in_bytes', layout)),
      failures: numberIn(read('memory', path, 'memory.failcnt', layout)),
      oomKills: fieldIn(read('memory', path, 'memory.oom_control', layout), 'oom_kill'),
    }
  }
  const events = read('memory', path, 'memory.events', layout)
  return {
    kernel: kernelMemory(read('memory', path, 'memory.stat', layout)),
    maxUsage: numberIn(read('memory', path, 'memory.peak', layout)),
    failures: fieldIn(events, 'max'),
    oomKills: fieldIn(events, 'oom_kill'),
  }
}

/** Kernels before 5.18 tell the parts only. */
const kernelMemory = (stat: string | undefined): number | undefined => {
  const whole = fieldIn(stat, 'kernel')
  const parts = ['kernel_stack', 'pagetables', 'percpu', 'sock', 'slab'].map((name) => fieldIn(stat, name))
  return whole ?? (stat === undefined ? undefined : parts.reduce<number>((sum, part) => sum + (part ?? 0), 0))
}

/** How many tasks there may be at once; undefined when any number. */
export const tasksLimit = (path: string, layout = cgroupLayout()): number | undefined =>
  numberIn(read('pids', path, 'pids.max', layout))

/** Devices that nothing was read from or written to are left out. */
export const deviceTraffic = (path: string, layout = cgroupLayout()): DeviceTraffic[] =>
  isInUnified('blkio', layout) ? trafficOfV2(read('io', path, 'io.stat', layout)) : trafficOfV1(path, layout)

const trafficOfV2 = (text: string | undefined): DeviceTraffic[] =>
  [...(text ?? '').matchAll(/^(\d+):(\d+) (.*)$/gm)].map(([, major, minor, fields = '']) => {
    const field = (name: string) => Number(new RegExp(`(?:^| )${name}=(\\d+)`).exec(fields)?.[1] ?? 0)
    return {
      major: Number(major),
      minor: Number(minor),
      readBytes: field('rbytes'),
      writeBytes: field('wbytes'),
      reads: field('rios'),
      writes: field('wios'),
    }
  })

const BLKIO_LINE = /^(\d+):(\d+) (Read|Write) (\d+)$/gm

/** Counted where requests enter the block layer, so whatever the device's scheduler. */
const trafficOfV1 = (path: string, layout: CgroupLayout): DeviceTraffic[] => {
  const devices = new Map<string, { -readonly [K in keyof DeviceTraffic]: DeviceTraffic[K] }>()
  const count = (file: string, keys: { Read: 'readBytes' | 'reads'; Write: 'writeBytes' | 'writes' }) => {
    const text =
      read('blkio', path, `blkio.throttle.${file}_recursive`, layout) ??
      read('blkio', path, `blkio.throttle.${file}`, layout)
    for (const [, major, minor, operation, value] of text?.matchAll(BLKIO_LINE) ?? []) {
      const device = devices.get(`${major}:${minor}`) ?? {
        major: Number(major),
        minor: Number(minor),
        readBytes: 0,
        writeBytes: 0,
        reads: 0,
        writes: 0,
      }
      devices.set(`${major}:${minor}`, device)
      device[operation === 'Read' ? keys.Read : keys.Write] = Number(value)
    }
  }
  count('io_service_bytes', { Read: 'readBytes', Write: 'writeBytes' })
  count('io_serviced', { Read: 'reads', Write: 'writes' })
  return [...devices.values()]
}

const HUGE_PAGE_FILE = /^hugetlb\.([^.]+)\.(?:current|usage_in_bytes)$/

export const hugePageUse = (path: string, layout = cgroupLayout()): HugePageUse[] => {
  const directory = layout.controllers.has('hugetlb') ? cgroupDirectory('hugetlb', path, layout) : undefined
  if (directory === undefined) return []
  const v2 = isInUnified('hugetlb', layout)
  const number = (size: string, name: string) => numberIn(read('hugetlb', path, `hugetlb.${size}.${name}`, layout))
  return namesIn(directory).flatMap((name) => {
    const size = HUGE_PAGE_FILE.exec(name)?.[1]
    if (size === undefined) return []
    if (!v2) {
      const [usage = 0, failures = 0] = [number(size, 'usage_in_bytes'), number(size, 'failcnt')]
      return [{ size, usage, failures, maxUsage: number(size, 'max_usage_in_bytes') }]
    }
    const events = read('hugetlb', path, `hugetlb.${size}.events`, layout)
    return [{ size, usage: number(size, 'current') ?? 0, failures: fieldIn(events, 'max') ?? 0, maxUsage: undefined }]
  })
}

const namesIn = (directory: string): string[] => {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}
