/** The limits of a container as the kernel has them, in the words of cgroup version 1. */

import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Site } from './site.ts'

export const isCgroupV2 = existsSync('/sys/fs/cgroup/cgroup.controllers')

/** Where the cgroup of a container of the site is, as the daemon's cgroupfs driver makes it. */
export const cgroupDirectory = (site: Site, containerId: string, controller: string): string =>
  join('/sys/fs/cgroup', isCgroupV2 ? '' : controller, site.cgroupParent, containerId)

export interface KernelLimits {
  readonly memory: string
  readonly cpus: string
  readonly quota: string
}

/** Memory limit in bytes, allowed CPUs, CPU quota in µs: as text. */
export async function kernelLimits(site: Site, containerId: string): Promise<KernelLimits> {
  const read = async (controller: string, file: string) =>
    (await readFile(join(cgroupDirectory(site, containerId, controller), file), 'utf8')).trim()
  const [memory, cpus, quota] = isCgroupV2
    ? ['memory.max', 'cpuset.cpus', 'cpu.max']
    : ['memory.limit_in_bytes', 'cpuset.cpus', 'cpu.cfs_quota_us']
  return {
    memory: await read('memory', memory),
    cpus: await read('cpuset', cpus),
    quota: (await read('cpu', quota)).split(' ')[0] ?? '',
  }
}
