/** What this host can do, probed once at start and handed around as a value. */
import { existsSync } from 'node:fs'
import { release } from 'node:os'
import { type CgroupLayout, cgroupLayout } from './cgroup-layout.ts'
import { readMountInfo } from './mount-info.ts'
import { readKernelFile } from './read-bounded.ts'

export interface HostFacts {
  kernel: { release: string; major: number; minor: number }
  /** As images name it. */
  arch: 'amd64' | 'arm64'
  cgroup: CgroupLayout
  apparmor: boolean
  selinux: boolean
  seccomp: boolean
  /** May lower oom_score_adj and raise limits. */
  capSysResource: boolean
  hugetlbMounted: boolean
  /** Capabilities a container can be given at most ("CAP_CHOWN"). */
  boundingCapabilities: string[]
  /** Recursive read-only mounts (kernel 5.12). */
  recursiveReadonlyMounts: boolean
  userNamespaces: boolean
}

// The place in the list is the number.
const CAPABILITIES =
  'CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE'.split(
    ' ',
  )

/** The names of the capabilities in a mask of /proc/<pid>/status, without those this list does not know. */
export const capabilityNames = (mask: bigint): string[] =>
  CAPABILITIES.flatMap((name, bit) => ((mask >> BigInt(bit)) & 1n ? [`CAP_${name}`] : []))

const statusMask = (status: string, field: string): bigint =>
  BigInt(`0x${new RegExp(`^${field}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1] ?? '0'}`)

const kernelVersion = (text: string): HostFacts['kernel'] => {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(text) ?? []
  return { release: text, major: Number(major ?? 0), minor: Number(minor ?? 0) }
}

const isOn = (path: string): boolean => readKernelFile(path)?.trim() === 'Y'

/** Reads the facts. Costs a few milliseconds; never throws for something that is merely absent. */
export const probeHost = (): HostFacts => {
  const status = readKernelFile('/proc/self/status') ?? ''
  const effective = capabilityNames(statusMask(status, 'CapEff'))
  const kernel = kernelVersion(release())
  return {
    kernel,
    arch: process.arch === 'arm64' ? 'arm64' : 'amd64',
    cgroup: cgroupLayout(),
    apparmor: isOn('/sys/module/apparmor/parameters/enabled') && existsSync('/sys/kernel/security/apparmor'),
    selinux: existsSync('/sys/fs/selinux/enforce'),
    seccomp: /^Seccomp:/m.test(status),
    capSysResource: effective.includes('CAP_SYS_RESOURCE'),
    hugetlbMounted: readMountInfo().some(({ fsType }) => fsType === 'hugetlbfs'),
    boundingCapabilities: capabilityNames(statusMask(status, 'CapBnd')),
    recursiveReadonlyMounts: kernel.major > 5 || (kernel.major === 5 && kernel.minor >= 12),
    userNamespaces:
      existsSync('/proc/self/ns/user') && readKernelFile('/proc/sys/user/max_user_namespaces')?.trim() !== '0',
  }
}
