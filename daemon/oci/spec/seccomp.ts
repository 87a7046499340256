/** The container's seccomp filter: ours, the node's, or none. A filter that was asked for and cannot be had is an error. */
import type { LinuxContainerSecurityContext } from '#proto/generated/api.ts'
import type { SpecHost } from './host.ts'
import { profileChoice } from './profiles.ts'
import { absolutePath, impossible, invalid, quoted } from './refuse.ts'
import { defaultSeccomp, seccompArchitectures } from './seccomp-default.ts'
import { parseSeccompProfile } from './seccomp-profile.ts'
import type { OciSeccomp } from './types.ts'

export interface SeccompInput {
  readonly security: LinuxContainerSecurityContext | undefined
  readonly host: Pick<SpecHost, 'arch' | 'seccompEnabled'>
  /** The final set of the container. */
  readonly capabilities: readonly string[]
  /** The text of the file that `localhostSeccompPath` names. */
  readonly localhostProfile?: string | undefined
  /** Of the configuration, instead of ours: for RuntimeDefault, and for privileged containers, which else have none. */
  readonly defaultProfile?: ProfileFile | undefined
  readonly privilegedProfile?: ProfileFile | undefined
}

export interface ProfileFile {
  readonly path: string
  readonly text: string
}

/**
 * The file on the node that holds the requested profile; undefined unless a Localhost profile is in force.
 * @throws RuntimeError invalid-argument
 */
export const localhostSeccompPath = (security: LinuxContainerSecurityContext | undefined): string | undefined => {
  if (!security || security.privileged) return undefined
  const choice = profileChoice('seccomp', security.seccomp, security.seccompProfilePath)
  if (choice.kind !== 'localhost') return undefined
  // api.proto: for seccomp the reference is an absolute path on the node.
  if (choice.ref.split('/').includes('..')) throw invalid(`seccomp.localhost_ref ${quoted(choice.ref)} has ".." in it`)
  return absolutePath('seccomp.localhost_ref', choice.ref)
}

/** @throws RuntimeError invalid-argument, failed-precondition */
export const seccomp = (input: SeccompInput): OciSeccomp | undefined => {
  const { security, host, capabilities, localhostProfile, defaultProfile, privilegedProfile } = input
  if (!security) return undefined
  const parse = ({ path, text }: ProfileFile, architectures: readonly string[]): OciSeccomp =>
    parseSeccompProfile(text, quoted(path), { architectures, dockerArch: host.arch, capabilities })
  if (security.privileged) {
    return privilegedProfile && confined(host, (architectures) => parse(privilegedProfile, architectures))
  }
  const choice = profileChoice('seccomp', security.seccomp, security.seccompProfilePath)
  if (choice.kind === 'unset' || choice.kind === 'unconfined') return undefined
  return confined(host, (architectures) => {
    if (choice.kind === 'runtime-default') {
      return defaultProfile
        ? parse(defaultProfile, architectures)
        : defaultSeccomp(architectures, host.arch, capabilities)
    }
    const path = localhostSeccompPath(security)
    if (path === undefined || localhostProfile === undefined) {
      throw impossible(`Seccomp profile ${quoted(choice.ref)} was not read`)
    }
    return parse({ path, text: localhostProfile }, architectures)
  })
}

const confined = (host: SeccompInput['host'], make: (architectures: readonly string[]) => OciSeccomp): OciSeccomp => {
  if (!host.seccompEnabled) throw impossible('Cannot apply a seccomp profile: the kernel has no seccomp')
  const architectures = seccompArchitectures(host.arch)
  if (!architectures) throw impossible(`Cannot apply a seccomp profile on architecture "${host.arch}"`)
  return make(architectures)
}
