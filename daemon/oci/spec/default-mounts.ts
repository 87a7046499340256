/** The mounts that every container has: kernel file systems, and the pod's files of /etc. */
import type { OciMount } from './types.ts'

export interface DefaultMountInput {
  readonly privileged: boolean
  readonly readonlyRootfs: boolean
  /** Whether the container may make cgroups below its own; they are its own in a cgroup namespace only. */
  readonly writableCgroup: boolean
  /** A user namespace cannot mount sysfs for a network namespace that it does not own, which the node's is. */
  readonly bindSys: boolean
  readonly etcFiles: EtcFiles
}

/** Host paths of the pod's own files. */
export interface EtcFiles {
  readonly hostname?: string
  readonly resolvConf?: string
  readonly hosts?: string
  /** The pod's shared /dev/shm. */
  readonly shm?: string
}

export const defaultMounts = (input: DefaultMountInput): OciMount[] => [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
  },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
  shm(input.etcFiles.shm),
  sys(input),
  cgroup(input),
]

const shm = (source: string | undefined): OciMount =>
  source === undefined
    ? {
        destination: '/dev/shm',
        type: 'tmpfs',
        source: 'shm',
        options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'],
      }
    : { destination: '/dev/shm', type: 'bind', source, options: ['rbind', 'nosuid', 'noexec', 'nodev', 'rprivate'] }

const sys = ({ privileged, bindSys }: DefaultMountInput): OciMount => {
  const options = ['nosuid', 'noexec', 'nodev', privileged ? 'rw' : 'ro']
  return bindSys
    ? { destination: '/sys', type: 'bind', source: '/sys', options: ['rbind', ...options, 'rprivate'] }
    : { destination: '/sys', type: 'sysfs', source: 'sysfs', options }
}

const cgroup = ({ privileged, writableCgroup }: DefaultMountInput): OciMount => ({
  destination: '/sys/fs/cgroup',
  type: 'cgroup',
  source: 'cgroup',
  options: ['nosuid', 'noexec', 'nodev', 'relatime', privileged || writableCgroup ? 'rw' : 'ro'],
})

/** Bind mounts of the pod's hostname, resolv.conf and hosts. Read-only where the rootfs is. */
export const etcMounts = ({ etcFiles, readonlyRootfs }: DefaultMountInput): OciMount[] => {
  const files: readonly [string, string | undefined][] = [
    ['/etc/hostname', etcFiles.hostname],
    ['/etc/hosts', etcFiles.hosts],
    ['/etc/resolv.conf', etcFiles.resolvConf],
  ]
  return files.flatMap(([destination, source]) =>
    source === undefined
      ? []
      : [
          {
            destination,
            type: 'bind',
            source,
            options: ['bind', 'nosuid', 'nodev', 'noexec', readonlyRootfs ? 'ro' : 'rw', 'rprivate'],
          },
        ],
  )
}
