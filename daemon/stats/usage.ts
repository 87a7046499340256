/** What a cgroup uses, as statistics tell it. Whatever the host does not count, or nobody counts any more, is undefined. */
import type { CgroupCounters, MemoryUse, Pressure } from '#linux/cgroup-counters.ts'
import { Rate } from './rate.ts'

export interface CpuUsage {
  /** Processor time since the cgroup was made, in nanoseconds. */
  readonly totalNs: number
  /** Of late, in billionths of a processor; undefined when only a second look will tell. */
  readonly nanoCores: number | undefined
  readonly pressure: Pressure | undefined
}

export type MemoryUsage = MemoryUse & { readonly pressure: Pressure | undefined }

export interface Usage {
  /** Milliseconds since 1970. */
  readonly atMs: number
  readonly cpu: CpuUsage | undefined
  readonly memory: MemoryUsage | undefined
  readonly ioPressure: Pressure | undefined
  /** Threads included; undefined also where nobody asked for it. */
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

  read({ tasks }: { tasks: boolean }): Usage {
    const { counters } = this
    const totalNs = counters.cpuUsage()
    const memory = counters.memory()
    return {
      atMs: Date.now(),
      cpu: totalNs === undefined ? undefined : this.#cpu(totalNs),
      memory: memory && { ...memory, pressure: counters.pressure('memory') },
      ioPressure: counters.pressure('io'),
      tasks: tasks ? counters.tasks() : undefined,
    }
  }

  /** A reading once more, as far as its processor time goes. */
  readAgain(usage: Usage): Usage {
    const totalNs = this.counters.cpuUsage()
    return totalNs === undefined ? usage : { ...usage, atMs: Date.now(), cpu: this.#cpu(totalNs) }
  }

  close(): void {
    this.counters.close()
  }

  #cpu(totalNs: number): CpuUsage {
    const nanoCores = this.#rate.after({ atMs: performance.now(), usageNs: totalNs }, this.#bornMs)
    return { totalNs, nanoCores, pressure: this.counters.pressure('cpu') }
  }
}

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
      pressure: undefined,
    },
    memory: memories.reduce(addMemory, NO_MEMORY),
    ioPressure: undefined,
    tasks: tasks.reduce((sum, each) => sum + each, 0),
  }
}

const NO_MEMORY: MemoryUsage = {
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
  pressure: undefined,
}

const addMemory = (a: MemoryUsage, b: MemoryUsage): MemoryUsage => ({
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
