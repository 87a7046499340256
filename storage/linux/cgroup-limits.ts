/**
 * The limits of a cgroup as the kernel has them: read all at once, and put back when a change broke off half-way. What
 * counts is in the kernel's files, whoever wrote them.
 */
import { readdirSync } from 'node:fs'
import { cgroupDirectory, cgroupLayout, readCgroupFile, writeCgroupFile } from './cgroup.ts'
import type { CgroupLayout } from './cgroup-layout.ts'
import { isErrno } from './errno.ts'

/** One file of one controller with what it holds. */
export interface CgroupLimit {
  readonly controller: string
  readonly file: string
  readonly value: string
}

/** In the order in which a lower limit must be written; see `restoreLimits`. */
const V1_FILES: Readonly<Record<string, readonly string[]>> = {
  memory: ['memory.limit_in_bytes', 'memory.memsw.limit_in_bytes'],
  cpu: ['cpu.shares', 'cpu.cfs_period_us', 'cpu.cfs_quota_us'],
  cpuset: ['cpuset.cpus', 'cpuset.mems'],
}

const V2_FILES: Readonly<Record<string, readonly string[]>> = {
  memory: ['memory.max', 'memory.swap.max'],
  cpu: ['cpu.weight', 'cpu.max'],
  cpuset: ['cpuset.cpus', 'cpuset.mems'],
}

/** Memory and swap of v1 are two limits of which one must never be below the other: one may have to wait for the other. */
const RESTORE_PASSES = 3

const isV2 = (controller: string, layout: CgroupLayout): boolean =>
  layout.version === 2 || layout.controllers.get(controller) === layout.unified

/** The file that limits huge pages of a size such as "2MB". */
export const hugepageFile = (pageSize: string, layout = cgroupLayout()): string =>
  `hugetlb.${pageSize}.${isV2('hugetlb', layout) ? 'max' : 'limit_in_bytes'}`

const hugepageFiles = (path: string, layout: CgroupLayout): string[] => {
  const directory = layout.controllers.has('hugetlb') ? cgroupDirectory('hugetlb', path, layout) : undefined
  if (directory === undefined) return []
  try {
    return readdirSync(directory).filter((name) => /^hugetlb\.[^.]+\.(limit_in_bytes|max)$/.test(name))
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return []
    throw error
  }
}

/** @param more further files of v2, such as "memory.high", whose first word is their controller */
const limitFiles = (path: string, more: readonly string[], layout: CgroupLayout): [string, string][] => {
  const named = Object.keys(V1_FILES).flatMap((controller) =>
    ((isV2(controller, layout) ? V2_FILES : V1_FILES)[controller] ?? []).map((file): [string, string] => [
      controller,
      file,
    ]),
  )
  return [
    ...named,
    ...hugepageFiles(path, layout).map((file): [string, string] => ['hugetlb', file]),
    ...more.map((file): [string, string] => [file.split('.')[0] ?? file, file]),
  ]
}

/** Every limit of the cgroup that this host has. */
export const readLimits = (path: string, more: readonly string[] = [], layout = cgroupLayout()): CgroupLimit[] =>
  limitFiles(path, more, layout).flatMap(([controller, file]) => {
    const value = readCgroupFile(controller, path, file, layout)?.trim()
    return value === undefined ? [] : [{ controller, file, value }]
  })

/**
 * Write back what differs. Throws the kernel's error when something cannot be put back, after all that can be is.
 * Nothing happens when the cgroup is gone.
 */
export const restoreLimits = (path: string, limits: readonly CgroupLimit[], layout = cgroupLayout()): void => {
  for (let pass = 1; ; pass++) {
    const failure = restoreOnce(path, limits, layout)
    if (failure === undefined) return
    if (pass === RESTORE_PASSES) throw failure
  }
}

const restoreOnce = (path: string, limits: readonly CgroupLimit[], layout: CgroupLayout): unknown => {
  let failure: unknown
  for (const { controller, file, value } of limits) {
    const now = readCgroupFile(controller, path, file, layout)?.trim()
    if (now === undefined || now === value) continue
    try {
      // An empty set of CPUs is written as an empty line.
      writeCgroupFile(controller, path, file, value === '' ? '\n' : value, layout)
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'ENODEV')) failure ??= error
    }
  }
  return failure
}

/**
 * Bytes that the cgroup's processes hold and the kernel cannot simply drop: all but the file cache that nobody has used
 * lately. undefined when the host does not count memory, or the cgroup is gone.
 */
export const workingSetBytes = (path: string, layout = cgroupLayout()): number | undefined => {
  const v2 = isV2('memory', layout)
  const usage = readCgroupFile('memory', path, v2 ? 'memory.current' : 'memory.usage_in_bytes', layout)
  if (usage === undefined) return undefined
  const stat = readCgroupFile('memory', path, 'memory.stat', layout) ?? ''
  const field = v2 ? /^inactive_file (\d+)$/m : /^total_inactive_file (\d+)$/m
  return Math.max(0, Number(usage) - Number(field.exec(stat)?.[1] ?? 0))
}
