/** Everything impure in one flat value, for those who take it as an argument and can be given a recording one in tests. */
import * as affinity from './affinity.ts'
import * as atomicFile from './atomic-file.ts'
import * as bindTree from './bind-tree.ts'
import * as blockDevices from './block-devices.ts'
import * as cgroup from './cgroup.ts'
import * as cgroupCounters from './cgroup-counters.ts'
import * as cgroupDetails from './cgroup-details.ts'
import * as cgroupDevices from './cgroup-devices.ts'
import * as cgroupLimits from './cgroup-limits.ts'
import * as chroot from './chroot.ts'
import * as connectInNamespace from './connect-in-namespace.ts'
import * as consoleSocket from './console-socket.ts'
import * as descriptorCensus from './descriptor-census.ts'
import * as flock from './flock.ts'
import * as freezer from './freezer.ts'
import * as hostFacts from './host-facts.ts'
import * as killCgroup from './kill-cgroup.ts'
import * as makeInRoot from './make-in-root.ts'
import * as mknod from './mknod.ts'
import * as mount from './mount.ts'
import * as namespaces from './namespaces.ts'
import * as netCounters from './net-counters.ts'
import * as netdev from './netdev.ts'
import * as openat2 from './openat2.ts'
import * as ownChildren from './own-children.ts'
import * as pidfd from './pidfd.ts'
import * as pipes from './pipes.ts'
import * as proc from './proc.ts'
import * as projectQuota from './project-quota.ts'
import * as pty from './pty.ts'
import * as readBounded from './read-bounded.ts'
import * as reaper from './reaper.ts'
import * as rlimit from './rlimit.ts'
import * as runCommand from './run-command.ts'
import * as signals from './signals.ts'
import * as spawnProgram from './spawn-program.ts'
import * as statfs from './statfs.ts'
import * as syncfs from './syncfs.ts'
import * as terminalChild from './terminal-child.ts'
import * as userNamespace from './user-namespace.ts'
import * as writeKernelFile from './write-kernel-file.ts'
import * as xattr from './xattr.ts'

export const linux = {
  ...affinity,
  ...atomicFile,
  ...bindTree,
  ...blockDevices,
  ...cgroup,
  ...cgroupCounters,
  ...cgroupDetails,
  ...cgroupDevices,
  ...cgroupLimits,
  ...chroot,
  ...connectInNamespace,
  ...consoleSocket,
  ...descriptorCensus,
  ...flock,
  ...freezer,
  ...hostFacts,
  ...killCgroup,
  ...makeInRoot,
  ...mknod,
  ...mount,
  ...namespaces,
  ...netCounters,
  ...netdev,
  ...openat2,
  ...ownChildren,
  ...pidfd,
  ...pipes,
  ...proc,
  ...projectQuota,
  ...pty,
  ...readBounded,
  ...reaper,
  ...rlimit,
  ...runCommand,
  ...signals,
  ...spawnProgram,
  ...statfs,
  ...syncfs,
  ...terminalChild,
  ...userNamespace,
  ...writeKernelFile,
  ...xattr,
}

export type Linux = typeof linux
