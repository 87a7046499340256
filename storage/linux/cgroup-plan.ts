/**
 * Which files of a cgroup are read together, and what their numbers mean: written down once for a kind of host, as all cgroups of a host
 * have the same files.
 */
import { cgroupDirectory } from './cgroup.ts'
import type { CgroupLayout } from './cgroup-layout.ts'
import { type Names, NumberFiles, names, readNumbers } from './number-files.ts'

/** Adds a file; returns where its first number will be. Without names the file is a number. */
export type At = (controller: string, file: string, wanted?: Names) => number

/** Makes something of the numbers of a cgroup that begin at `from`. */
export type Take<T> = (all: Float64Array, from: number) => T

export type Describe<T> = (layout: CgroupLayout, at: At) => Take<T>

interface Plan<T> {
  readonly files: readonly { readonly controller: string; readonly file: string }[]
  readonly wanted: readonly Names[]
  readonly take: Take<T>
}

const NUMBER = names('')
/** Limits of version 1 that mean none: the largest multiple of the page size below 2^63. */
const UNLIMITED = 2 ** 60

/** Undefined also for what version 1 has for "any number"; above 2^53 the last digits are lost. */
export const numberAt = (all: Float64Array, at: number): number | undefined => {
  const value = all[at]
  return value !== undefined && value >= 0 && value < UNLIMITED ? value : undefined
}

export const timesAt = (all: Float64Array, at: number, unit: number): number | undefined => {
  const value = numberAt(all, at)
  return value === undefined ? undefined : value * unit
}

/** What a cgroup says of one kind, to be read together with others. */
export class CgroupNumbers<T> {
  readonly files: NumberFiles
  readonly take: Take<T>

  constructor(path: string, layout: CgroupLayout, plan: Plan<T>, isKept: boolean) {
    const pathOf = (index: number) => {
      const { controller = '', file = '' } = plan.files[index] ?? {}
      const directory = cgroupDirectory(controller, path, layout)
      return directory === undefined ? undefined : `${directory}/${file}`
    }
    this.files = new NumberFiles(plan.wanted, pathOf, { isKept })
    this.take = plan.take
  }

  read(): T {
    return this.take(readNumbers([this.files]), 0)
  }

  /** Lets go of the files; the next reading opens them again. */
  close(): void {
    this.files.close()
  }
}

/** A maker of such, `isKept` when the files are to stay open between readings. */
export const cgroupNumbers = <T>(describe: Describe<T>, { isKept }: { isKept: boolean }) => {
  const plans = new WeakMap<CgroupLayout, Plan<T>>()
  return (path: string, layout: CgroupLayout): CgroupNumbers<T> => {
    const plan = plans.get(layout) ?? planFor(layout, describe)
    plans.set(layout, plan)
    return new CgroupNumbers(path, layout, plan, isKept)
  }
}

const planFor = <T>(layout: CgroupLayout, describe: Describe<T>): Plan<T> => {
  const files: { controller: string; file: string }[] = []
  const wanted: Names[] = []
  let next = 0
  const take = describe(layout, (controller, file, of = NUMBER) => {
    files.push({ controller, file })
    wanted.push(of)
    next += of.count
    return next - of.count
  })
  return { files, wanted, take }
}

/** Many at once, each in its place. */
export const readTogether = <T>(all: readonly CgroupNumbers<T>[]): T[] => {
  const numbers = readNumbers(all.map(({ files }) => files))
  let next = 0
  return all.map(({ files, take }) => {
    const from = next
    next += files.count
    return take(numbers, from)
  })
}
