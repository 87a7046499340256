/** SELinux labels of the process and of its mounts. */
import type { LinuxContainerSecurityContext, SELinuxOption } from '#proto/generated/api.ts'
import type { SpecHost } from './host.ts'
import { impossible, invalid, quoted } from './refuse.ts'

export interface SelinuxLabels {
  readonly process?: string
  readonly mount?: string
  readonly warnings: readonly string[]
}

const NAME = /^[a-zA-Z0-9_.-]{1,100}$/
const LEVEL = /^s\d{1,2}(-s\d{1,2})?(:c\d{1,4}([.,]c\d{1,4})*(-s\d{1,2}:c\d{1,4}([.,]c\d{1,4})*)?)?$/

/** The type that stands for "not confined by SELinux". */
const UNCONFINED_TYPE = 'spc_t'

/**
 * @param podLevel the level that the pod's containers share when the request names none
 * @throws RuntimeError invalid-argument for malformed parts; failed-precondition when labels that confine are asked for
 *   on a host without SELinux
 */
export const selinuxLabels = (
  security: LinuxContainerSecurityContext | undefined,
  host: Pick<SpecHost, 'selinuxEnabled'>,
  podLevel = 's0',
): SelinuxLabels => {
  const options = security?.selinuxOptions
  if (options) checkOptions(options)
  const isAsked = options !== undefined && Object.values(options).some((part) => part !== '')
  if (!host.selinuxEnabled) return isAsked ? without(options) : { warnings: [] }
  const level = options?.level || podLevel
  const type = options?.type || (security?.privileged ? UNCONFINED_TYPE : 'container_t')
  return {
    process: [options?.user || 'system_u', options?.role || 'system_r', type, level].join(':'),
    mount: ['system_u', 'object_r', 'container_file_t', level].join(':'),
    warnings: [],
  }
}

/** "Unconfined" is kept by a host that does not confine; anything else would be a promise broken silently. */
const without = (options: SELinuxOption): SelinuxLabels => {
  if (options.type === UNCONFINED_TYPE) {
    return { warnings: ['selinux_options are ignored: SELinux is not enabled on this host'] }
  }
  throw impossible('Cannot apply selinux_options: SELinux is not enabled on this host')
}

const checkOptions = (options: SELinuxOption): void => {
  for (const part of ['user', 'role', 'type'] as const) {
    const value = options[part]
    if (value !== '' && !NAME.test(value)) throw invalid(`selinux_options.${part} ${quoted(value)} is malformed`)
  }
  if (options.level !== '' && !LEVEL.test(options.level)) {
    throw invalid(`selinux_options.level ${quoted(options.level)} is malformed`)
  }
}
