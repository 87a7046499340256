/**
 * Every path of the daemon, below its two roots. `root` survives a reboot (images, layers, records); `state` does not
 * have to (sockets, bundles, namespaces). docs/on-disk.md tells who writes what.
 */
import { join } from 'node:path'
import type { ContainerId, SandboxId } from './ids.ts'

export type PinnedNamespace = 'net' | 'ipc' | 'uts' | 'pid' | 'user'

export interface Paths {
  readonly stateLock: string
  /** Where `cricket check` finds the daemon. */
  readonly checkSocket: string
  /** Where `cricket image load` finds it. */
  readonly loadSocket: string
  readonly storage: string
  readonly images: string
  readonly networkCache: string
  /** Settings of the node from before containers changed them. */
  readonly cpuIsolation: string
  readonly sandboxRecords: string
  readonly containerRecords: string
  readonly sandboxes: string
  readonly containers: string
  /** One directory for each container that has volumes of its own. */
  readonly ownVolumes: string
  /** One directory for each container that is being written to an archive, or made from one. */
  readonly checkpoints: string
  /** What CRIU is told beyond what OCI runtimes can tell it. */
  readonly criuSettings: string
  /** Sockets on which OCI runtimes hand over listeners of seccomp filters. */
  readonly seccompListeners: string
  sandbox(id: SandboxId): SandboxPaths
  container(id: ContainerId): ContainerPaths
}

export interface SandboxPaths {
  readonly dir: string
  readonly namespaces: string
  pin(kind: PinnedNamespace): string
  readonly etc: string
  readonly hostname: string
  readonly resolvConf: string
  readonly hosts: string
  readonly shm: string
  /** Bundle and monitor of the init process; only in pods that share a PID namespace. */
  readonly init: string
}

export interface ContainerPaths {
  /** The OCI bundle, which is the monitor's directory as well. */
  readonly dir: string
  readonly spec: string
  readonly rootfs: string
  /** Where volumes that the daemon itself mounts are seen, each under the index of its mount. */
  readonly volumes: string
  /** Directories for volumes that the image declares; on the disk, as they may grow. */
  readonly ownVolumes: string
  /** What goes into its archive, or came out of one; on the disk, as all of its memory is in there. */
  readonly checkpoint: string
  /** Generated /etc/passwd and /etc/group. */
  readonly passwd: string
  readonly group: string
  /** Where the OCI runtime hands over the listener of the seccomp filter, for containers whose refusals are told. */
  readonly seccompListener: string
}

/** Those that an additional image store has as well. */
export const rootPaths = (root: string): Pick<Paths, 'storage' | 'images'> => ({
  storage: join(root, 'storage'),
  images: join(root, 'images'),
})

/** @param containersRoot where containers write, unless that is below `root` as well */
export function pathsUnder(root: string, state: string, containersRoot = root): Paths {
  const sandboxes = join(state, 'sandboxes')
  const containers = join(state, 'containers')
  return {
    stateLock: join(state, 'lock'),
    checkSocket: join(state, 'check.sock'),
    loadSocket: join(state, 'load.sock'),
    ...rootPaths(root),
    networkCache: join(root, 'network'),
    cpuIsolation: join(root, 'cpu-isolation.json'),
    sandboxRecords: join(root, 'sandboxes'),
    containerRecords: join(root, 'containers'),
    sandboxes,
    containers,
    ownVolumes: join(containersRoot, 'volumes'),
    checkpoints: join(root, 'checkpoints'),
    criuSettings: join(state, 'criu.conf'),
    // A socket's name has to be short.
    seccompListeners: join(state, 'seccomp'),
    sandbox: (id) => sandboxPaths(join(sandboxes, id)),
    container: (id) =>
      containerPaths(join(containers, id), {
        ownVolumes: join(containersRoot, 'volumes', id),
        checkpoint: join(root, 'checkpoints', id),
        seccompListener: join(state, 'seccomp', id.slice(0, 20)),
      }),
  }
}

function sandboxPaths(dir: string): SandboxPaths {
  const namespaces = join(dir, 'ns')
  const etc = join(dir, 'etc')
  return {
    dir,
    namespaces,
    pin: (kind) => join(namespaces, kind),
    etc,
    hostname: join(etc, 'hostname'),
    resolvConf: join(etc, 'resolv.conf'),
    hosts: join(etc, 'hosts'),
    shm: join(dir, 'shm'),
    init: join(dir, 'init'),
  }
}

type Elsewhere = Pick<ContainerPaths, 'ownVolumes' | 'checkpoint' | 'seccompListener'>

const containerPaths = (dir: string, elsewhere: Elsewhere): ContainerPaths => ({
  dir,
  spec: join(dir, 'config.json'),
  rootfs: join(dir, 'rootfs'),
  volumes: join(dir, 'volumes'),
  passwd: join(dir, 'passwd'),
  group: join(dir, 'group'),
  ...elsewhere,
})
