/** Which cgroup hierarchies this host has, and where: v2 alone, v1 alone, or v1 with an extra unified tree. */
import { type MountInfo, readMountsOfTypes } from './mount-info.ts'
import { readKernelFile } from './read-bounded.ts'

export interface CgroupLayout {
  version: 1 | 2 | 'hybrid'
  /** Mount point of the hierarchy of each controller; named v1 hierarchies appear as "name=systemd". */
  controllers: Map<string, string>
  /** Mount point of the v2 tree, when there is one. */
  unified?: string
}

const CONTROLLERS = new Set(
  'cpu cpuacct cpuset memory devices freezer blkio pids net_cls net_prio perf_event hugetlb rdma misc'.split(' '),
)

const controllersOfV1 = ({ superOptions }: MountInfo): string[] =>
  superOptions.filter((option) => CONTROLLERS.has(option) || option.startsWith('name='))

const controllersOfV2 = (mountpoint: string): string[] =>
  (readKernelFile(`${mountpoint}/cgroup.controllers`) ?? '').split(/\s+/).filter((name) => name !== '')

/** The layout a mount table describes. Of several mounts of one hierarchy the first counts. */
export const layoutOf = (mounts: readonly MountInfo[]): CgroupLayout => {
  const controllers = new Map<string, string>()
  for (const mount of mounts) {
    if (mount.fsType !== 'cgroup') continue
    for (const name of controllersOfV1(mount)) if (!controllers.has(name)) controllers.set(name, mount.mountpoint)
  }
  const unified = mounts.find(({ fsType }) => fsType === 'cgroup2')?.mountpoint
  const hasV1 = controllers.size > 0
  if (unified === undefined) return { version: 1, controllers }
  for (const name of controllersOfV2(unified)) if (!controllers.has(name)) controllers.set(name, unified)
  return { version: hasV1 ? 'hybrid' : 2, controllers, unified }
}

/** Whether a controller is in the tree of version 2. */
export const isInUnified = (controller: string, layout: CgroupLayout): boolean =>
  layout.version === 2 || layout.controllers.get(controller) === layout.unified

let host: CgroupLayout | undefined

/** The host's layout, read once: it does not change while the machine runs. */
export const cgroupLayout = (): CgroupLayout => {
  host ??= layoutOf(readMountsOfTypes(['cgroup']))
  return host
}
