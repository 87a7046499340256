/** Everything about this host that one request needs looked up before its spec can be built. */
import type { ContainerConfig } from '#proto/generated/api.ts'
import { readSeccompProfile } from './read-seccomp-profile.ts'
import { hostDevices, resolveDevices } from './resolve-devices.ts'
import { resolveMountSources } from './resolve-mounts.ts'
import { localhostSeccompPath } from './spec/seccomp.ts'
import type { ContainerSpecInput } from './spec/spec-input.ts'

export type SpecFacts = Pick<
  ContainerSpecInput,
  'defaultSeccomp' | 'devices' | 'hostDevices' | 'localhostSeccomp' | 'mountSources' | 'privilegedSeccomp'
>

/** Profiles that the configuration names; absolute paths. */
export interface ConfiguredProfiles {
  readonly defaultSeccomp?: string | undefined
  readonly privilegedSeccomp?: string | undefined
}

/** @throws RuntimeError invalid-argument, failed-precondition for what is not on this host */
export const specFacts = async (
  config: ContainerConfig,
  { defaultSeccomp, privilegedSeccomp }: ConfiguredProfiles = {},
  rejectedSources: readonly string[] = [],
): Promise<SpecFacts> => {
  const security = config.linux?.securityContext
  const profile = localhostSeccompPath(security)
  return {
    devices: resolveDevices(config.devices),
    mountSources: await resolveMountSources(config.mounts, rejectedSources),
    ...(security?.privileged && { hostDevices: hostDevices() }),
    ...(profile !== undefined && { localhostSeccomp: readSeccompProfile(profile) }),
    ...(defaultSeccomp !== undefined && { defaultSeccomp: profileFile(defaultSeccomp) }),
    ...(privilegedSeccomp !== undefined && { privilegedSeccomp: profileFile(privilegedSeccomp) }),
  }
}

const profileFile = (path: string) => ({ path, text: readSeccompProfile(path) })
