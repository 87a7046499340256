/** What the spec parts need to know of the host. Data only, so that a spec can be made, and tested, for any host. */

export interface SpecHost {
  /** As images name it. */
  readonly arch: 'amd64' | 'arm64'
  readonly cgroupVersion: 1 | 2
  /** How many processors are online. */
  readonly cpus: number
  /** Whether resctrl is mounted: classes of cache and memory bandwidth. */
  readonly resctrl: boolean
  readonly apparmorEnabled: boolean
  /** The name of our own AppArmor profile when it is loaded. */
  readonly apparmorDefaultProfile?: string
  readonly selinuxEnabled: boolean
  /** Where it is not enabled: whether what asks for a label of its own is refused; otherwise the label means nothing. */
  readonly selinuxRequired?: boolean
  readonly seccompEnabled: boolean
  /** Whether the daemon has CAP_SYS_RESOURCE: without it no process may get a lower oom_score_adj than the daemon's. */
  readonly canRaiseOom: boolean
  /** The daemon's own oom_score_adj. */
  readonly oomScoreAdj: number
  /** Without CAP_SYS_RESOURCE: the daemon's hard limits by their OCI names, which no child can exceed. */
  readonly hardLimits?: Readonly<Record<string, number>>
  /** Whether the hugetlb controller can be used. */
  readonly hugetlb: boolean
  /** Whether the kernel counts swap per cgroup. */
  readonly swapAccounting: boolean
  /** Whether the kernel can make a mount and all below it read-only (5.12). */
  readonly recursiveReadOnlyMounts: boolean
  /** "CAP_CHOWN", …: those that the daemon can hand on. */
  readonly capabilities: readonly string[]
  /** The /sys/devices/system/cpu/cpu<n>/thermal_throttle directories, which leak the timing of other pods. */
  readonly thermalThrottlePaths: readonly string[]
}

/** What the OCI runtime can do beyond the basic specification. */
export interface SpecFeatures {
  readonly recursiveReadOnlyMounts: boolean
  readonly idmappedMounts: boolean
  /** Whether the runtime follows `process.execCPUAffinity` (runtime-spec 1.2.1). */
  readonly execCpuAffinity?: boolean
  /** Whether the runtime says that it follows I/O priority and scheduler (runtime-spec 1.1). */
  readonly scheduling?: boolean
  /** Whether it says that it follows network devices and memory policy (runtime-spec 1.3). */
  readonly netDevices?: boolean
  /** Whether the runtime hands over the listener of a seccomp filter. */
  readonly seccompNotify?: boolean
}

/** A device node of the host. */
export interface HostDevice {
  readonly path: string
  readonly type: 'c' | 'b'
  readonly major: number
  readonly minor: number
  /** Permission bits. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
}

/** A device of the request, looked up on the host. A directory of devices expands to several. */
export interface ResolvedDevice {
  readonly device: HostDevice
  /** Where it appears in the container. */
  readonly containerPath: string
  /** Some of "r", "w", "m". */
  readonly access: string
}

/** The source of a bind mount of the request, looked up on the host. */
export interface MountSource {
  /** What to mount: `host_path` with its symlinks resolved, or the mounted image. */
  readonly path: string
  /** How mounts spread from the mount that `path` lies on. */
  readonly propagation: 'private' | 'shared' | 'slave' | 'shared-slave'
  /** Ids are mapped there already; the runtime has nothing to map. */
  readonly isMapped?: boolean
  /** Nothing may be executed from there. */
  readonly noexec?: boolean
  /** It is mounted already, in the source of a mount above it: nothing is left for the runtime. */
  readonly isInside?: boolean
  /** Something that is mounted in it follows the node's mounts, though it does not itself. */
  readonly holdsSlaves?: boolean
}
