/** Which namespaces the container joins, gets for itself, or shares with the node. */

import { RuntimeError } from '#proto/errors.ts'
import { type ContainerConfig, NamespaceMode, type PodSandboxConfig } from '#proto/generated/api.ts'
import { invalid, quoted } from './refuse.ts'
import type { OciNamespace } from './types.ts'

/** The absolute path of a pinned namespace, "host" for the node's, or "new". */
export type NamespaceRef = string

export interface NamespaceRefs {
  readonly net: NamespaceRef
  readonly ipc: NamespaceRef
  readonly uts: NamespaceRef
  readonly pid: NamespaceRef
  /** Only looked at in pods with a user namespace; absent means "new". */
  readonly user?: NamespaceRef
}

export interface NamespaceModes {
  readonly net: 'host' | 'pod'
  readonly ipc: 'host' | 'pod'
  readonly pid: 'host' | 'pod' | 'container' | 'target'
}

/**
 * What request and pod say together. The pod decides about network and IPC; a container that does not speak of its PID
 * namespace follows the pod, and "POD" in a pod without a shared one means one of its own.
 * @throws RuntimeError invalid-argument when the container asks for a node namespace that its pod does not use
 */
export const namespaceModes = (container: ContainerConfig, sandbox: PodSandboxConfig): NamespaceModes => {
  const pod = sandbox.linux?.securityContext?.namespaceOptions
  const own = container.linux?.securityContext?.namespaceOptions
  for (const kind of ['network', 'ipc'] as const) {
    if (own?.[kind] === NamespaceMode.NODE && pod?.[kind] !== NamespaceMode.NODE) {
      throw invalid(`namespace_options.${kind} is NODE, but the pod has a namespace of its own`)
    }
  }
  return {
    net: pod?.network === NamespaceMode.NODE ? 'host' : 'pod',
    ipc: pod?.ipc === NamespaceMode.NODE ? 'host' : 'pod',
    pid: pidMode(own?.pid ?? pod?.pid ?? NamespaceMode.POD, pod?.pid ?? NamespaceMode.POD),
  }
}

const pidMode = (own: NamespaceMode, pod: NamespaceMode): NamespaceModes['pid'] => {
  switch (own) {
    case NamespaceMode.NODE:
      return 'host'
    case NamespaceMode.TARGET:
      return 'target'
    case NamespaceMode.CONTAINER:
      return 'container'
    case NamespaceMode.POD:
      if (pod === NamespaceMode.NODE) return 'host'
      return pod === NamespaceMode.POD ? 'pod' : 'container'
    default:
      throw invalid(`namespace_options.pid ${own} is unknown`)
  }
}

export interface NamespaceInput {
  readonly refs: NamespaceRefs
  readonly modes: NamespaceModes
  readonly hasUserNamespace: boolean
  readonly privileged: boolean
  readonly cgroupVersion: 1 | 2
}

/** @throws RuntimeError invalid-argument for combinations that the kernel refuses, internal for refs against the request */
export const namespaces = (input: NamespaceInput): OciNamespace[] => {
  const { refs, modes, hasUserNamespace } = input
  checkRefs(refs, modes)
  if (hasUserNamespace && (modes.pid === 'host' || modes.ipc === 'host')) {
    throw invalid('A pod with a user namespace cannot use the PID or IPC namespace of the node')
  }
  return [
    { type: 'mount' },
    ...join('network', refs.net),
    ...join('ipc', refs.ipc),
    ...join('uts', refs.uts),
    ...join('pid', refs.pid),
    ...(hasUserNamespace ? join('user', refs.user ?? 'new') : []),
    // On version 1 programs expect to see the real path; a privileged container may administer the whole tree.
    ...(input.cgroupVersion === 2 && !input.privileged ? [{ type: 'cgroup' } as const] : []),
  ]
}

const join = (type: OciNamespace['type'], ref: NamespaceRef): OciNamespace[] => {
  if (ref === 'host') return []
  if (ref === 'new') return [{ type }]
  if (!ref.startsWith('/')) throw new RuntimeError('internal', `Namespace reference ${quoted(ref)} is no absolute path`)
  return [{ type, path: ref }]
}

/** The caller pins the namespaces; this proves that what it pinned is what was asked for. */
const checkRefs = (refs: NamespaceRefs, modes: NamespaceModes): void => {
  const isPath = (ref: NamespaceRef) => ref !== 'host' && ref !== 'new'
  const fits = {
    net: (refs.net === 'host') === (modes.net === 'host'),
    ipc: (refs.ipc === 'host') === (modes.ipc === 'host'),
    uts: (refs.uts === 'host') === (modes.net === 'host'),
    pid:
      (refs.pid === 'host') === (modes.pid === 'host') &&
      (modes.pid !== 'container' || refs.pid === 'new') &&
      (modes.pid === 'container' || modes.pid === 'host' || isPath(refs.pid)),
  }
  for (const [kind, isRight] of Object.entries(fits)) {
    if (!isRight) throw new RuntimeError('internal', `The ${kind} namespace given is not the one that was asked for`)
  }
}
