/** The pod's namespaces: files that outlive every process of the pod, so that no pause container is needed (design D6). */
import { chownSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import type { Linux } from '#linux/linux.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { PodSandboxConfig } from '#proto/generated/api.ts'
import type { PodSysctl } from '../oci/spec/sysctls.ts'
import type { PinnedNamespace, SandboxPaths } from '../paths.ts'
import { podHostname } from './etc-files.ts'
import { podIdMap, podNamespaces } from './sandbox.ts'

/** What is in them. */
export interface Inside {
  /** In this order. */
  readonly sysctls: readonly PodSysctl[]
  readonly shmBytes: number
  /** Of what lies in /dev/shm, on a host with SELinux. */
  readonly label?: string | undefined
}

/**
 * Make and pin what the pod does not share with the host; set host name, loopback and sysctls inside; mount /dev/shm.
 * A pod on the host network keeps the host's UTS namespace too, as its host name is the node's.
 */
export function makeNamespaces(
  linux: Linux,
  paths: SandboxPaths,
  config: PodSandboxConfig,
  { sysctls, shmBytes, label }: Inside,
): void {
  const { hostNetwork, hostIpc } = podNamespaces(config)
  const kinds: ('net' | 'uts' | 'ipc')[] = []
  if (!hostNetwork) kinds.push('net', 'uts')
  if (!hostIpc) kinds.push('ipc')
  const pins = { net: paths.pin('net'), ipc: paths.pin('ipc'), uts: paths.pin('uts'), user: paths.pin('user') }
  const inside = () => {
    if (!hostNetwork) linux.setHostname(podHostname(config))
    if (!hostNetwork) linux.setLinkUp('lo')
    for (const sysctl of sysctls) setSysctl(sysctl)
  }
  const map = podIdMap(config)
  // The pod's root may administer what belongs to the pod's own user namespace.
  if (map) linux.createOwnedNamespaces({ map, kinds, pins, inside })
  else if (kinds.length > 0) linux.createNamespaces({ kinds, pins, inside })
  if (!hostIpc) {
    mkdirSync(paths.shm, { mode: 0o1777 })
    linux.mountTmpfs(paths.shm, {
      sizeBytes: shmBytes,
      mode: 0o1777,
      flags: ['nosuid', 'nodev', 'noexec'],
      context: label,
    })
    if (map) chownSync(paths.shm, map.uids.hostId, map.gids.hostId)
  }
}

function setSysctl({ name, path, value }: PodSysctl): void {
  try {
    writeFileSync(path, value)
  } catch (cause) {
    throw new RuntimeError('invalid-argument', `Cannot set sysctl "${name}" to "${value}"`, { cause })
  }
}

/** Whether those that only files hold are there: a release that no record tells of takes them away. */
export function hasNamespaces(paths: SandboxPaths, config: PodSandboxConfig): boolean {
  const { hostNetwork, hostIpc } = podNamespaces(config)
  return (hostNetwork || existsSync(paths.pin('net'))) && (hostIpc || existsSync(paths.pin('ipc')))
}

const kinds: readonly PinnedNamespace[] = ['pid', 'ipc', 'uts', 'net', 'user']

/** Give back all of it. Repeatable; what is gone already is fine. */
export function releaseNamespaces(linux: Linux, paths: SandboxPaths): void {
  linux.unmount(paths.shm, { detach: true })
  for (const kind of kinds) linux.unpinNamespace(paths.pin(kind))
}
