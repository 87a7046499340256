/**
 * What a cgroup has used, read often: its files are kept open. Version 1 and 2 tell the same things under other names; what a version
 * or a host does not have is undefined, and so is everything of a cgroup that is gone.
 */
import { cgroupDirectory, cgroupLayout } from './cgroup.ts'
import type { CgroupLayout } from './cgroup-layout.ts'
import { fieldIn, isLimited, numberIn, type Pressure, pressureIn } from './counter-text.ts'
import { HeldFile } from './held-file.ts'

export type { Pressure, Stall } from './counter-text.ts'

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

/** Names of the same things in the two versions' `memory.stat`. */
const STAT = {
  1: {
    rss: 'total_rss',
    cache: 'total_cache',
    mappedFile: 'total_mapped_file',
    activeFile: 'total_active_file',
    inactiveFile: 'total_inactive_file',
    pageFaults: 'total_pgfault',
    majorPageFaults: 'total_pgmajfault',
  },
  2: {
    rss: 'anon',
    cache: 'file',
    mappedFile: 'file_mapped',
    activeFile: 'active_file',
    inactiveFile: 'inactive_file',
    pageFaults: 'pgfault',
    majorPageFaults: 'pgmajfault',
  },
} as const

export const isInUnified = (controller: string, layout: CgroupLayout): boolean =>
  layout.version === 2 || layout.controllers.get(controller) === layout.unified

export class CgroupCounters {
  readonly #path: string
  readonly #layout: CgroupLayout
  readonly #files = new Map<string, HeldFile | undefined>()

  /** @param path as in cgroup.ts; it need not exist */
  constructor(path: string, layout: CgroupLayout) {
    this.#path = path
    this.#layout = layout
  }

  /** Nanoseconds of processor time. */
  cpuUsage(): number | undefined {
    if (!isInUnified('cpuacct', this.#layout)) return numberIn(this.#read('cpuacct', 'cpuacct.usage'))
    const micros = fieldIn(this.#read('cpu', 'cpu.stat'), 'usage_usec')
    return micros === undefined ? undefined : micros * 1000
  }

  memory(): MemoryUse | undefined {
    const v2 = isInUnified('memory', this.#layout)
    const usage = numberIn(this.#read('memory', v2 ? 'memory.current' : 'memory.usage_in_bytes'))
    if (usage === undefined) return undefined
    const stat = this.#read('memory', 'memory.stat')
    const names = STAT[v2 ? 2 : 1]
    const field = (name: string) => fieldIn(stat, name) ?? 0
    const inactiveFile = field(names.inactiveFile)
    return {
      usage,
      workingSet: Math.max(0, usage - inactiveFile),
      rss: field(names.rss),
      cache: field(names.cache),
      mappedFile: field(names.mappedFile),
      activeFile: field(names.activeFile),
      inactiveFile,
      pageFaults: field(names.pageFaults),
      majorPageFaults: field(names.majorPageFaults),
      ...(v2 ? this.#limitsOfV2() : this.#limitsOfV1(stat)),
    }
  }

  #limitsOfV2(): Pick<MemoryUse, 'limit' | 'swap'> {
    const swap = numberIn(this.#read('memory', 'memory.swap.current'))
    return {
      limit: numberIn(this.#read('memory', 'memory.max')),
      swap: swap === undefined ? undefined : { usage: swap, limit: numberIn(this.#read('memory', 'memory.swap.max')) },
    }
  }

  /** Where neither the cgroup nor one above it has a limit, its own files need not be read. */
  #limitsOfV1(stat: string | undefined): Pick<MemoryUse, 'limit' | 'swap'> {
    const own = (among: string, file: string) =>
      isLimited(fieldIn(stat, among)) ? numberIn(this.#read('memory', file)) : undefined
    const limit = own('hierarchical_memory_limit', 'memory.limit_in_bytes')
    // For memory and swap together; not there on a host that does not count swap.
    const both = own('hierarchical_memsw_limit', 'memory.memsw.limit_in_bytes')
    const usage = fieldIn(stat, 'total_swap')
    const swapLimit = both === undefined || limit === undefined ? undefined : Math.max(0, both - limit)
    return { limit, swap: usage === undefined ? undefined : { usage, limit: swapLimit } }
  }

  /** Tasks, threads included. */
  tasks(): number | undefined {
    return numberIn(this.#read('pids', 'pids.current'))
  }

  /** Only version 2 has it, and only with a kernel that was told to. */
  pressure(kind: PressureKind): Pressure | undefined {
    if (this.#layout.version !== 2) return undefined
    return pressureIn(this.#read(kind, `${kind}.pressure`))
  }

  /** Lets go of the files; the next reading opens them again. */
  close(): void {
    for (const file of this.#files.values()) file?.close()
    this.#files.clear()
  }

  #read(controller: string, name: string): string | undefined {
    if (!this.#files.has(name)) {
      const directory = cgroupDirectory(controller, this.#path, this.#layout)
      this.#files.set(name, directory === undefined ? undefined : new HeldFile(`${directory}/${name}`))
    }
    return this.#files.get(name)?.read()
  }
}

/** The counters of a cgroup, on this host unless a test gives a layout of its own. */
export const cgroupCounters = (path: string, layout = cgroupLayout()): CgroupCounters =>
  new CgroupCounters(path, layout)
