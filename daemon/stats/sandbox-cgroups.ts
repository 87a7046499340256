/** The cgroups of a pod: the one that the kubelet has made for it, and that of its init process. */
import { posix } from 'node:path'
import { cgroupsPath, hostCgroupPath } from '../oci/cgroup-path.ts'
import type { Parts } from '../parts.ts'
import { podNamespaces, type Sandbox } from '../sandbox/sandbox.ts'

export interface SandboxCgroups {
  /** Undefined for a pod that was not given one. */
  readonly pod: string | undefined
  /** Undefined for a pod without an init process. */
  readonly init: string | undefined
}

export function sandboxCgroups(config: Parts['config'], { record }: Sandbox): SandboxCgroups {
  const parent = record.config.linux?.cgroupParent ?? ''
  const init = hostCgroupPath(cgroupsPath(config.cgroupDriver, parent, record.id))
  return {
    pod: parent === '' ? undefined : posix.dirname(init),
    init: podNamespaces(record.config).sharedPid ? init : undefined,
  }
}

/**
 * Says of a sandbox whether its cgroup holds this pod alone, as the kubelet makes them. Other clients put all their pods into one: then
 * what it counts is nobody's.
 */
export function ownsItsCgroup(sandboxes: readonly Sandbox[]): (sandbox: Sandbox) => boolean {
  const pods = new Map<string, string>()
  const shared = new Set<string>()
  for (const { record, status } of sandboxes) {
    const parent = record.config.linux?.cgroupParent
    // A pod whose sandbox was made anew has two records, one of them stopped.
    if (!parent || status.state !== 'ready') continue
    const pod = pods.get(parent)
    if (pod !== undefined && pod !== record.id) shared.add(parent)
    pods.set(parent, record.id)
  }
  return ({ record }) => {
    const parent = record.config.linux?.cgroupParent
    return !!parent && !shared.has(parent)
  }
}
