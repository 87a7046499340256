/**
 * Takes processors out of the scheduler's balancing. Version 2 of cgroups makes the container an isolated partition, for which
 * every cgroup above has to set the processors aside (Linux 6.7). In version 1 a flag of the container's cpuset says it, and has
 * an effect once the cgroups above, which are not ours, have it too.
 */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type CgroupLayout, cgroupDirectory } from '#linux/cgroup.ts'
import { isErrno } from '#linux/errno.ts'
import { readKernelFile } from '#linux/read-bounded.ts'
import { writeKernelFile } from '#linux/write-kernel-file.ts'
import { type CpuSet, difference, formatCpuList, parseCpuList, union } from '../oci/cpu-list.ts'
import { impossible } from '../oci/spec/refuse.ts'

/** @throws RuntimeError failed-precondition where the kernel cannot do it */
export const stopBalancing = (cgroup: string, cpus: CpuSet, layout?: CgroupLayout): void => {
  const directory = cgroupDirectory('cpuset', cgroup, layout)
  if (directory === undefined)
    throw impossible('Cannot stop the balancing of processors: there is no cpuset controller')
  const flag = join(directory, 'cpuset.sched_load_balance')
  if (existsSync(flag)) {
    writeKernelFile(flag, '0')
    return
  }
  const places = [...above(cgroup, layout), directory]
  if (!existsSync(join(directory, 'cpuset.cpus.exclusive'))) {
    throw impossible('Cannot stop the balancing of processors: the kernel has no cpuset.cpus.exclusive (Linux 6.7)')
  }
  for (const place of places) change(place, (before) => union(before, cpus))
  const partition = join(directory, 'cpuset.cpus.partition')
  writeKernelFile(partition, 'isolated')
  const now = readKernelFile(partition)?.trim()
  if (now !== 'isolated') throw impossible(`Cannot stop the balancing of processors ${formatCpuList(cpus)}: ${now}`)
}

/** The processors are everybody's again. Idempotent; in version 1 the flag went with the cgroup. */
export const resumeBalancing = (cgroup: string, cpus: CpuSet, layout?: CgroupLayout): void => {
  const directory = cgroupDirectory('cpuset', cgroup, layout)
  if (directory === undefined) return
  const partition = join(directory, 'cpuset.cpus.partition')
  if (existsSync(partition)) writeKernelFile(partition, 'member')
  for (const place of [directory, ...above(cgroup, layout).reverse()])
    change(place, (before) => difference(before, cpus))
}

/** The cgroups above, the outermost first, without the root. */
const above = (cgroup: string, layout: CgroupLayout | undefined): string[] => {
  const found: string[] = []
  for (let path = dirname(cgroup); path !== '/' && path !== '.'; path = dirname(path)) found.unshift(path)
  return found.flatMap((path) => cgroupDirectory('cpuset', path, layout) ?? [])
}

const change = (directory: string, to: (before: CpuSet) => CpuSet): void => {
  const path = join(directory, 'cpuset.cpus.exclusive')
  const before = readKernelFile(path)
  const cpus = before === undefined ? undefined : parseCpuList(before)
  if (!cpus) return
  const wanted = to(cpus)
  if (wanted.size === cpus.size) return
  try {
    // An empty write is none for the kernel: a line without anything is.
    writeKernelFile(path, wanted.size === 0 ? '\n' : formatCpuList(wanted))
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENODEV')) throw error
  }
}
