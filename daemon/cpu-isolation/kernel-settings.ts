/**
 * The settings of the kernel that the wishes of all isolated containers together come to, by the path of their file. Computed
 * anew from what was there before, so that it does not matter who came and went in which order.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { readKernelFile } from '#linux/read-bounded.ts'
import { difference, formatMask, parseMask, union } from '../oci/cpu-list.ts'
import { impossible, quoted } from '../oci/spec/refuse.ts'
import type { IsolationWishes } from './wishes.ts'

export interface KernelRoots {
  /** /proc/irq */
  readonly irq: string
  /** /sys/devices/system/cpu */
  readonly cpus: string
}

export interface Setting {
  readonly path: string
  readonly value: string
  /** Interrupts that cannot be moved say so when they are: no failure. */
  readonly mayFail?: boolean
}

/** The value from before containers changed anything. */
export type OriginalOf = (path: string) => string | undefined

/** @throws RuntimeError failed-precondition for what this host does not have, or when no processor would be left */
export const wantedSettings = (
  roots: KernelRoots,
  all: readonly IsolationWishes[],
  original: OriginalOf,
): Setting[] => [...interrupts(roots, all, original), ...power(roots, all)]

const interrupts = (roots: KernelRoots, all: readonly IsolationWishes[], original: OriginalOf): Setting[] => {
  const banned = union(...all.map(({ withoutInterrupts }) => withoutInterrupts))
  if (banned.size === 0) return []
  const path = join(roots.irq, 'default_smp_affinity')
  const before = original(path) ?? readKernelFile(path)?.trim()
  const cpus = before === undefined ? undefined : parseMask(before)
  if (before === undefined || !cpus) throw impossible(`Cannot keep interrupts away: "${path}" is missing`)
  const left = difference(cpus, banned)
  if (left.size === 0) throw impossible('Cannot keep interrupts away: no processor would be left for them')
  const fallback = formatMask(left, before)
  return [{ path, value: fallback }, ...eachInterrupt(roots, banned, fallback, original)]
}

const eachInterrupt = (
  roots: KernelRoots,
  banned: ReadonlySet<number>,
  fallback: string,
  original: OriginalOf,
): Setting[] =>
  readdirSync(roots.irq)
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      const path = join(roots.irq, name, 'smp_affinity')
      const before = original(path) ?? readKernelFile(path)?.trim()
      const cpus = before === undefined ? undefined : parseMask(before)
      if (before === undefined || !cpus) return []
      const left = difference(cpus, banned)
      if (left.size === cpus.size) return []
      return [{ path, value: left.size === 0 ? fallback : formatMask(left, before), mayFail: true }]
    })

const power = ({ cpus: root }: KernelRoots, all: readonly IsolationWishes[]): Setting[] =>
  all.flatMap(({ cpus, governor, wakeLatency }) =>
    [...cpus].flatMap((cpu) => [
      ...(wakeLatency === undefined
        ? []
        : [present(join(root, `cpu${cpu}`, 'power/pm_qos_resume_latency_us'), wakeLatency)]),
      ...(governor === undefined ? [] : [governorOf(join(root, `cpu${cpu}`, 'cpufreq'), governor)]),
    ]),
  )

const present = (path: string, value: string): Setting => {
  if (!existsSync(path)) throw impossible(`This host has no "${path}"`)
  return { path, value }
}

const governorOf = (directory: string, governor: string): Setting => {
  const offered = readKernelFile(join(directory, 'scaling_available_governors'))?.trim().split(/\s+/)
  if (!offered) throw impossible(`This host has no "${directory}", and so no governors of frequency`)
  if (!offered.includes(governor)) {
    throw impossible(`Governor ${quoted(governor)} is not one of ${offered.map(quoted).join(', ')}`)
  }
  return { path: join(directory, 'scaling_governor'), value: governor }
}
