/** Everything about this host that one request needs looked up before its spec can be built. */
import type { ContainerConfig } from '#proto/generated/api.ts'
import { readSeccompProfile } from './read-seccomp-profile.ts'
import { hostDevices, resolveDevices } from './resolve-devices.ts'
import { resolveMountSources } from './resolve-mounts.ts'
import type { ContainerSpecInput } from './spec/container-spec.ts'
import { localhostSeccompPath } from './spec/seccomp.ts'

export type SpecFacts = Pick<ContainerSpecInput, 'devices' | 'hostDevices' | 'localhostSeccomp' | 'mountSources'>

/** @throws RuntimeError invalid-argument, failed-precondition for what is not on this host */
export const specFacts = async (config: ContainerConfig): Promise<SpecFacts> => {
  const security = config.linux?.securityContext
  const profile = localhostSeccompPath(security)
  return {
    devices: resolveDevices(config.devices),
    mountSources: await resolveMountSources(config.mounts),
    ...(security?.privileged && { hostDevices: hostDevices() }),
    ...(profile !== undefined && { localhostSeccomp: readSeccompProfile(profile) }),
  }
}
