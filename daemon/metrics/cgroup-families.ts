/** Metrics of a cgroup, be it a container's or a pod's: processor, memory, pressure. */
import type { MemoryUse, Pressure } from '#linux/cgroup-counters.ts'
import type { CpuTimes, MemoryDetails, Throttling } from '#linux/cgroup-details.ts'
import { type Family, one, secondsOfNs, secondsOfUs } from './family.ts'

export interface CgroupReading {
  readonly cpuNs: number | undefined
  readonly cpuTimes: CpuTimes | undefined
  /** Undefined without a limit on processor time: then nothing is held back. */
  readonly throttling: Throttling | undefined
  readonly memory: MemoryUse | undefined
  readonly memoryDetails: MemoryDetails
  readonly pressure: {
    readonly cpu: Pressure | undefined
    readonly memory: Pressure | undefined
    readonly io: Pressure | undefined
  }
}

type CgroupFamily = Family<CgroupReading>

const cpu: readonly CgroupFamily[] = [
  {
    name: 'container_cpu_user_seconds_total',
    help: 'Processor time spent in user mode, in seconds',
    type: 'counter',
    samples: ({ cpuTimes }) => one(secondsOfNs(cpuTimes?.user)),
  },
  {
    name: 'container_cpu_system_seconds_total',
    help: 'Processor time spent in the kernel, in seconds',
    type: 'counter',
    samples: ({ cpuTimes }) => one(secondsOfNs(cpuTimes?.system)),
  },
  {
    name: 'container_cpu_usage_seconds_total',
    help: 'Processor time used, in seconds',
    type: 'counter',
    labels: ['cpu'],
    samples: ({ cpuNs }) => one(secondsOfNs(cpuNs)).map(({ value }) => ({ value, labels: ['total'] })),
  },
  {
    name: 'container_cpu_cfs_periods_total',
    help: 'Periods over which the limit on processor time was enforced',
    type: 'counter',
    samples: ({ throttling }) => one(throttling?.periods),
  },
  {
    name: 'container_cpu_cfs_throttled_periods_total',
    help: 'Periods in which the limit on processor time held processes back',
    type: 'counter',
    samples: ({ throttling }) => one(throttling?.throttledPeriods),
  },
  {
    name: 'container_cpu_cfs_throttled_seconds_total',
    help: 'Time for which the limit on processor time held processes back, in seconds',
    type: 'counter',
    samples: ({ throttling }) => one(secondsOfNs(throttling?.throttledNs)),
  },
  {
    name: 'container_cpu_cfs_burst_periods_total',
    help: 'Periods in which processor time that was saved before was used',
    type: 'counter',
    samples: ({ throttling }) => one(throttling && (throttling.burstPeriods ?? 0)),
  },
  {
    name: 'container_cpu_cfs_burst_seconds_total',
    help: 'Processor time that was saved before and used beyond the limit, in seconds',
    type: 'counter',
    samples: ({ throttling }) => one(throttling && secondsOfNs(throttling.burstNs ?? 0)),
  },
]

/** A metric that is a field of the memory counters. */
const memoryGauge = (name: string, help: string, value: (memory: MemoryUse) => number): CgroupFamily => ({
  name,
  help,
  type: 'gauge',
  samples: ({ memory }) => one(memory && value(memory)),
})

const memory: readonly CgroupFamily[] = [
  memoryGauge('container_memory_cache', 'Page cache, in bytes', ({ cache }) => cache),
  memoryGauge('container_memory_rss', 'Anonymous memory, in bytes', ({ rss }) => rss),
  memoryGauge('container_memory_mapped_file', 'Files mapped into memory, in bytes', ({ mappedFile }) => mappedFile),
  memoryGauge('container_memory_swap', 'Memory that is on a swap device, in bytes', ({ swap }) => swap?.usage ?? 0),
  memoryGauge('container_memory_usage_bytes', 'All memory in use, the page cache included', ({ usage }) => usage),
  memoryGauge(
    'container_memory_working_set_bytes',
    'Memory in use but for the page cache that has not been used lately',
    ({ workingSet }) => workingSet,
  ),
  memoryGauge(
    'container_memory_total_active_file_bytes',
    'Page cache that has been used lately',
    ({ activeFile }) => activeFile,
  ),
  memoryGauge(
    'container_memory_total_inactive_file_bytes',
    'Page cache that has not been used lately',
    ({ inactiveFile }) => inactiveFile,
  ),
  {
    name: 'container_memory_kernel_usage',
    help: 'Memory that the kernel holds for it, in bytes',
    type: 'gauge',
    samples: ({ memory, memoryDetails }) => one(memory && (memoryDetails.kernel ?? 0)),
  },
  {
    name: 'container_memory_max_usage_bytes',
    help: 'The most memory that was in use at any time; 0 where the kernel does not tell',
    type: 'gauge',
    samples: ({ memory, memoryDetails }) => one(memory && (memoryDetails.maxUsage ?? 0)),
  },
  {
    name: 'container_memory_failcnt',
    help: 'How often the memory limit was met',
    type: 'counter',
    samples: ({ memory, memoryDetails }) => one(memory && (memoryDetails.failures ?? 0)),
  },
  {
    name: 'container_oom_events_total',
    help: 'Processes that the kernel has killed for want of memory',
    type: 'counter',
    samples: ({ memory, memoryDetails }) => one(memory && (memoryDetails.oomKills ?? 0)),
  },
  {
    name: 'container_memory_failures_total',
    help: 'Page faults',
    type: 'counter',
    labels: ['failure_type', 'scope'],
    samples: ({ memory }) =>
      memory === undefined
        ? []
        : ['container', 'hierarchy'].flatMap((scope) => [
            { value: memory.pageFaults, labels: ['pgfault', scope] },
            { value: memory.majorPageFaults, labels: ['pgmajfault', scope] },
          ]),
  },
]

const pressure: readonly CgroupFamily[] = (['cpu', 'memory', 'io'] as const).flatMap((kind): CgroupFamily[] => [
  {
    name: `container_pressure_${kind}_waiting_seconds_total`,
    help: `Time in which some processes waited for ${kind}, in seconds`,
    type: 'counter',
    samples: (reading) => one(secondsOfUs(reading.pressure[kind]?.some.total)),
  },
  {
    name: `container_pressure_${kind}_stalled_seconds_total`,
    help: `Time in which all processes at once waited for ${kind}, in seconds`,
    type: 'counter',
    samples: (reading) => {
      const found = reading.pressure[kind]
      return one(found && secondsOfUs(found.full?.total ?? 0))
    },
  },
])

export const cgroupFamilies: readonly CgroupFamily[] = [...cpu, ...memory, ...pressure]
