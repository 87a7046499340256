/** The container's AppArmor profile. Not asked for means RuntimeDefault, as the kubelet expects. */
import type { LinuxContainerSecurityContext } from '#proto/generated/api.ts'
import type { SpecHost } from './host.ts'
import { profileChoice } from './profiles.ts'
import { impossible, quoted } from './refuse.ts'

export interface AppArmorChoice {
  /** Absent: no profile. */
  readonly profile?: string
  readonly warnings: readonly string[]
}

const NONE: AppArmorChoice = { warnings: [] }

/**
 * Whether a named profile is loaded is for the runtime to find out: it fails to create the container when it is not.
 * @throws RuntimeError failed-precondition when the node cannot enforce a profile that was asked for by name
 */
export const apparmor = (
  security: LinuxContainerSecurityContext | undefined,
  host: Pick<SpecHost, 'apparmorEnabled' | 'apparmorDefaultProfile'>,
): AppArmorChoice => {
  if (security?.privileged) return NONE
  const choice = profileChoice('apparmor', security?.apparmor, security?.apparmorProfile ?? '')
  switch (choice.kind) {
    case 'unconfined':
      return host.apparmorEnabled ? { profile: 'unconfined', warnings: [] } : NONE
    case 'localhost':
      if (host.apparmorEnabled) return { profile: choice.ref, warnings: [] }
      throw impossible(`Cannot apply AppArmor profile ${quoted(choice.ref)}: AppArmor is not enabled on this host`)
    case 'runtime-default':
    case 'unset':
      // The kubelet's words: on a node without AppArmor the default profile is no profile.
      if (!host.apparmorEnabled) return NONE
      if (host.apparmorDefaultProfile) return { profile: host.apparmorDefaultProfile, warnings: [] }
      if (choice.kind === 'unset')
        return { warnings: ['No default AppArmor profile is loaded; the container has none'] }
      throw impossible('Cannot apply the default AppArmor profile: it is not loaded')
  }
}
