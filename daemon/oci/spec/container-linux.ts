/** The section `linux` of a container's spec: namespaces, devices, limits, filters, protected paths. */
import { isElsewhere } from './bound-devices.ts'
import { deviceSet } from './devices.ts'
import { protectedPaths } from './masked-paths.ts'
import type { MountSet } from './mounts.ts'
import { namespaces } from './namespaces.ts'
import { impossible } from './refuse.ts'
import { resourceLimits, withoutQuota } from './resources.ts'
import { seccomp } from './seccomp.ts'
import { notifying } from './seccomp-notify.ts'
import { type Context, labelsOf, type Part } from './spec-context.ts'
import type { ContainerSpecInput } from './spec-input.ts'
import type { OciLinux, OciProcess } from './types.ts'

export const containerLinux = (
  input: ContainerSpecInput,
  context: Context,
  process: OciProcess,
  { rootfsPropagation }: MountSet,
): Part<OciLinux> => {
  const { container, host } = input
  const { security, privileged, modes, mappings, share } = context
  const limits = resourceLimits(container.linux?.resources, host, input.pidsLimit)
  const labels = labelsOf(input, context)
  const { devices, rules } = deviceSet({
    privileged: privileged && (input.privilegedDevices ?? true),
    requested: container.devices,
    resolved: input.devices ?? [],
    hostDevices: input.hostDevices,
    ...(input.deviceOwnership && { owner: process.user }),
  })
  const elsewhere = new Set((input.devices ?? []).filter(isElsewhere).map(({ containerPath }) => containerPath))
  const paths = protectedPaths(security, host, mappings !== undefined)
  const filter = seccomp({
    security,
    host,
    capabilities: process.capabilities.bounding,
    localhostProfile: input.localhostSeccomp,
    defaultProfile: input.defaultSeccomp,
    privilegedProfile: input.privilegedSeccomp,
  })
  const listener = input.node?.seccompListener
  if (listener !== undefined && filter && !input.features.seccompNotify) {
    throw impossible('The OCI runtime cannot tell of refused system calls (SCMP_ACT_NOTIFY)')
  }
  return {
    value: {
      namespaces: namespaces({
        refs: input.namespaces,
        modes,
        hasUserNamespace: mappings !== undefined,
        privileged,
        cgroupVersion: host.cgroupVersion,
      }),
      ...(mappings && { uidMappings: mappings.uids, gidMappings: mappings.gids }),
      devices: mappings ? devices.filter(({ path }) => !elsewhere.has(path)) : devices,
      cgroupsPath: input.cgroupsPath,
      resources: {
        devices: rules,
        ...(share.withoutQuota ? withoutQuota(limits.resources) : limits.resources),
        ...(share.blockIo && { blockIO: share.blockIo }),
      },
      ...(rootfsPropagation && { rootfsPropagation }),
      ...(filter && { seccomp: listener === undefined ? filter : notifying(filter, listener) }),
      maskedPaths: paths.masked,
      readonlyPaths: paths.readonly,
      ...(labels.mount !== undefined && { mountLabel: labels.mount }),
      ...(share.rdt && { intelRdt: share.rdt }),
    },
    warnings: [...limits.warnings, ...labels.warnings],
  }
}
