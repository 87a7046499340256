/**
 * Freezing a cgroup, and thawing one that somebody froze: a stop signal reaches frozen processes only then (and on v1 SIGKILL, too).
 */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { cgroupDirectory, cgroupLayout } from './cgroup.ts'
import { isErrno, LinuxError } from './errno.ts'
import { readKernelFile } from './read-bounded.ts'
import { writeKernelFile } from './write-kernel-file.ts'

interface Freezer {
  readonly file: string
  readonly thawed: string
  readonly thaw: string
  readonly freeze: string
  /** Whether the last process has been caught. */
  isFrozen(): boolean
}

const fileOf = (path: string, layout = cgroupLayout()): Freezer | undefined => {
  const directory = cgroupDirectory('freezer', path, layout)
  if (directory === undefined) return undefined
  if (layout.version === 2) {
    const isFrozen = () => /^frozen 1$/m.test(readKernelFile(join(directory, 'cgroup.events')) ?? '')
    return { file: join(directory, 'cgroup.freeze'), thawed: '0', thaw: '0', freeze: '1', isFrozen }
  }
  const file = join(directory, 'freezer.state')
  return {
    file,
    thawed: 'THAWED',
    thaw: 'THAWED',
    freeze: 'FROZEN',
    isFrozen: () => readKernelFile(file)?.trim() === 'FROZEN',
  }
}

const LOOK_MS = 5

/**
 * Freeze the cgroup. @returns whether all of its processes were caught in time; when not, it may still be freezing.
 * @throws LinuxError ENOENT when there is no such cgroup, or no freezer
 */
export const freezeCgroup = async (path: string, timeoutMs: number, layout = cgroupLayout()): Promise<boolean> => {
  const freezer = fileOf(path, layout)
  if (freezer === undefined) throw new LinuxError('ENOENT', 'freeze', path)
  for (const deadline = performance.now() + timeoutMs; ; await sleep(LOOK_MS)) {
    // Version 1 misses processes that are born meanwhile, unless it is told again.
    writeKernelFile(freezer.file, freezer.freeze)
    if (freezer.isFrozen()) return true
    if (performance.now() > deadline) return false
  }
}

/**
 * Thaw the cgroup when it is frozen, or being frozen.
 * @returns whether it was. A cgroup above that is frozen keeps its hold on this one.
 */
export const thawCgroup = (path: string, layout = cgroupLayout()): boolean => {
  const freezer = fileOf(path, layout)
  const state = freezer && readKernelFile(freezer.file)?.trim()
  if (!freezer || state === undefined || state === freezer.thawed) return false
  try {
    writeKernelFile(freezer.file, freezer.thaw)
    return true
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return false
    throw error
  }
}
