/**
 * SELinux labels of a container's process and of its files. Containers of a pod share one level, a pair of categories that
 * no other pod has, so that pods cannot touch each other's files even where both run as the same user.
 */
import type { LinuxContainerSecurityContext, LinuxSandboxSecurityContext, SELinuxOption } from '#proto/generated/api.ts'
import type { SpecHost } from './host.ts'
import { impossible, invalid, quoted } from './refuse.ts'

export interface SelinuxInput {
  readonly container: LinuxContainerSecurityContext | undefined
  /** What the pod asks for holds for its containers, part by part, unless they ask for something else. */
  readonly sandbox?: LinuxSandboxSecurityContext | undefined
  readonly host: Pick<SpecHost, 'selinuxEnabled' | 'selinuxRequired'>
  /** The level that is the pod's own. */
  readonly podLevel?: string | undefined
  /** Whether it sees the processes, or the shared memory, of the node. */
  readonly sharesNode?: boolean
}

export interface SelinuxLabels {
  readonly process?: string
  /** Of its files: root file system, volumes, what the daemon makes for it. */
  readonly mount?: string
  readonly warnings: readonly string[]
}

const NAME = /^[a-zA-Z0-9_.-]{1,100}$/
const LEVEL = /^s\d{1,2}(-s\d{1,2})?(:c\d{1,4}([.,]c\d{1,4})*(-s\d{1,2}:c\d{1,4}([.,]c\d{1,4})*)?)?$/

/** The type that stands for "not confined by SELinux". */
export const UNCONFINED_TYPE = 'spc_t'

/**
 * @throws RuntimeError invalid-argument for malformed parts; failed-precondition when labels that confine are asked for
 *   on a host without SELinux that is configured to refuse them
 */
export const selinuxLabels = (input: SelinuxInput): SelinuxLabels => {
  const { container, host, podLevel = 's0', sharesNode = false } = input
  const options = merged(container?.selinuxOptions, input.sandbox?.selinuxOptions)
  const isAsked = Object.values(options).some((part) => part !== '')
  if (!host.selinuxEnabled) return isAsked ? without(options, host.selinuxRequired === true) : { warnings: [] }
  const isUnconfined = container?.privileged || sharesNode
  const type = options.type || (isUnconfined ? UNCONFINED_TYPE : 'container_t')
  // Who may do everything is not kept to one pod's categories.
  const level = options.level || (type === UNCONFINED_TYPE ? 's0' : podLevel)
  return {
    process: [options.user || 'system_u', options.role || 'system_r', type, level].join(':'),
    mount: fileLabel(options.level || podLevel),
    warnings: [],
  }
}

/** The label of files that containers of this level may write. */
export const fileLabel = (level: string): string => `system_u:object_r:container_file_t:${level}`

const merged = (own: SELinuxOption | undefined, pods: SELinuxOption | undefined): SELinuxOption => {
  for (const options of [own, pods]) if (options) checkOptions(options)
  const part = (name: keyof SELinuxOption): string => own?.[name] || pods?.[name] || ''
  return { user: part('user'), role: part('role'), type: part('type'), level: part('level') }
}

/**
 * Kubernetes says of nodes without SELinux that the field has no effect there, and its own tests ask for labels on every
 * host. Where labels are required, "unconfined" is still kept by a host that does not confine, and a level without
 * categories sets nobody apart.
 */
const without = (options: SELinuxOption, isRequired: boolean): SelinuxLabels => {
  const { user, role, type, level } = options
  if (level === 's0' && [user, role, type].every((part) => part === '')) return { warnings: [] }
  if (!isRequired || type === UNCONFINED_TYPE) {
    return { warnings: ['selinux_options are ignored: SELinux is not enabled on this host'] }
  }
  throw impossible('Cannot apply selinux_options: SELinux is required, but not enabled on this host')
}

/** @throws RuntimeError invalid-argument */
const checkOptions = (options: SELinuxOption): void => {
  for (const part of ['user', 'role', 'type'] as const) {
    const value = options[part]
    if (value !== '' && !NAME.test(value)) throw invalid(`selinux_options.${part} ${quoted(value)} is malformed`)
  }
  if (options.level !== '' && !LEVEL.test(options.level)) {
    throw invalid(`selinux_options.level ${quoted(options.level)} is malformed`)
  }
}
