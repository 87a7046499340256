/** What a cgroup uses, as statistics tell it. Whatever the host does not count, or nobody counts any more, is undefined. */
import type { CgroupCounters, CgroupUse, MemoryUse } from '#linux/cgroup-counters.ts'
import { Rate } from './rate.ts'

export interface CpuUsage {
  /** Processor time since the cgroup was made, in nanoseconds. */
  readonly totalNs: number
  /** Of late, in billionths of a processor; undefined when only a second look will tell. */
  readonly nanoCores: number | undefined
}

export interface Usage {
  /** Milliseconds since 1970. */
  readonly atMs: number
  readonly cpu: CpuUsage | undefined
  readonly memory: MemoryUse | undefined
  readonly pressure: CgroupUse['pressure']
  /** Threads included; undefined also of containers. */
  readonly tasks: number | undefined
}

/** One cgroup whose usage is asked for again and again. */
export class UsageMeter {
  readonly counters: CgroupCounters
  readonly #rate = new Rate()
  /** On the clock of `performance.now()`. */
  readonly #bornMs: number | undefined

  /** @param ageMs how long the cgroup has existed, when it has never been anybody else's */
  constructor(counters: CgroupCounters, ageMs?: number) {
    this.counters = counters
    this.#bornMs = ageMs === undefined || ageMs < 0 ? undefined : performance.now() - ageMs
  }

  /** What a reading of this moment says. */
  usage({ cpuNs, memory, pressure, tasks }: CgroupUse, now: Moment): Usage {
    const cpu = cpuNs === undefined ? undefined : { totalNs: cpuNs, nanoCores: this.#nanoCores(cpuNs, now) }
    return { atMs: now.atMs, cpu, memory, pressure, tasks }
  }

  close(): void {
    this.counters.close()
  }

  #nanoCores(usageNs: number, { clockMs }: Moment): number | undefined {
    return this.#rate.after({ atMs: clockMs, usageNs }, this.#bornMs)
  }
}

/** When something was read: milliseconds since 1970, and on a clock that is never set. */
export interface Moment {
  readonly atMs: number
  readonly clockMs: number
}

export const now = (): Moment => ({ atMs: Date.now(), clockMs: performance.now() })

/** What several cgroups use together. Limits and pressure do not add up. */
export function sumOfUsages(usages: readonly Usage[]): Usage {
  const cpus = usages.flatMap(({ cpu }) => cpu ?? [])
  const rates = cpus.flatMap(({ nanoCores }) => nanoCores ?? [])
  const memories = usages.flatMap(({ memory }) => memory ?? [])
  const tasks = usages.flatMap((usage) => usage.tasks ?? [])
  return {
    atMs: usages[0]?.atMs ?? Date.now(),
    cpu: {
      totalNs: cpus.reduce((sum, { totalNs }) => sum + totalNs, 0),
      nanoCores: rates.length < cpus.length ? undefined : rates.reduce((sum, rate) => sum + rate, 0),
    },
    memory: memories.reduce(addMemory, NO_MEMORY),
    pressure: { cpu: undefined, memory: undefined, io: undefined },
    tasks: tasks.reduce((sum, each) => sum + each, 0),
  }
}

const NO_MEMORY: MemoryUse = {
  usage: 0,
  workingSet: 0,
  rss: 0,
  cache: 0,
  mappedFile: 0,
  activeFile: 0,
  inactiveFile: 0,
  pageFaults: 0,
  majorPageFaults: 0,
  limit: undefined,
  swap: undefined,
}

const addMemory = (a: MemoryUse, b: MemoryUse): MemoryUse => ({
  ...NO_MEMORY,
  usage: a.usage + b.usage,
  workingSet: a.workingSet + b.workingSet,
  rss: a.rss + b.rss,
  cache: a.cache + b.cache,
  mappedFile: a.mappedFile + b.mappedFile,
  activeFile: a.activeFile + b.activeFile,
  inactiveFile: a.inactiveFile + b.inactiveFile,
  pageFaults: a.pageFaults + b.pageFaults,
  majorPageFaults: a.majorPageFaults + b.majorPageFaults,
})
