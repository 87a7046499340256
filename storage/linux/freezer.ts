/** Thawing a cgroup that somebody froze: a stop signal reaches frozen processes only then (and on v1 SIGKILL, too). */
import { join } from 'node:path'
import { cgroupDirectory, cgroupLayout } from './cgroup.ts'
import { isErrno } from './errno.ts'
import { readKernelFile } from './read-bounded.ts'
import { writeKernelFile } from './write-kernel-file.ts'

const fileOf = (path: string, layout = cgroupLayout()): { file: string; thawed: string; thaw: string } | undefined => {
  const directory = cgroupDirectory('freezer', path, layout)
  if (directory === undefined) return undefined
  return layout.version === 2
    ? { file: join(directory, 'cgroup.freeze'), thawed: '0', thaw: '0' }
    : { file: join(directory, 'freezer.state'), thawed: 'THAWED', thaw: 'THAWED' }
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
