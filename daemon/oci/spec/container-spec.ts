/**
 * The OCI spec of a container, from what was asked for and what the host is. Pure: equal inputs give equal specs. Whatever
 * was asked for is in the spec, or the call throws, or (where the CRI lets a runtime do less) a warning says so.
 */
import { containerAnnotations } from './annotations.ts'
import { boundDevices } from './bound-devices.ts'
import { accountMounts, generatedAccounts, mappedUser } from './container-accounts.ts'
import { containerLinux } from './container-linux.ts'
import { containerProcess } from './container-process.ts'
import { type MountSet, mounts } from './mounts.ts'
import type { UserFiles } from './rootfs-user.ts'
import { type Context, contextOf } from './spec-context.ts'
import type { ContainerSpecInput } from './spec-input.ts'
import { stopSignal } from './stop-signal.ts'
import type { OciSpec } from './types.ts'
import { validateContainerConfig } from './validate.ts'

export interface BuiltContainer {
  readonly spec: OciSpec
  /** For the log: what the host could not do exactly as asked. */
  readonly warnings: readonly string[]
  readonly user: { readonly uid: number; readonly gid: number; readonly supplementalGroups: readonly number[] }
  /** To be written to `accountFilePaths`, where the spec mounts them from. */
  readonly accountFiles: UserFiles
  /** A name such as "SIGTERM". */
  readonly stopSignal: string
}

export const OCI_VERSION = '1.0.2'

/** @throws RuntimeError invalid-argument, failed-precondition, unimplemented, rro-unsupported, image-volume-mount-failed */
export const containerSpec = (input: ContainerSpecInput): BuiltContainer => {
  validateContainerConfig(input.container)
  const context = contextOf(input)
  const user = mappedUser(input, context)
  const process = containerProcess(input, context, user)
  const accounts = generatedAccounts(input, user, process.value.env)
  const mountSet = containerMounts(input, context, accounts)
  const linux = containerLinux(input, context, process.value, mountSet)
  const stop = stopSignal(input.container.stopSignal, input.image.stopSignal, context.share.stopSignal)
  return {
    spec: {
      ociVersion: OCI_VERSION,
      root: { path: input.rootfs.path, readonly: context.readonlyRootfs },
      // Joined UTS namespaces have their name already.
      ...(input.namespaces.uts === 'new' && { hostname: input.hostname }),
      process: process.value,
      mounts: mountSet.mounts,
      annotations: containerAnnotations(input),
      linux: linux.value,
    },
    accountFiles: accounts,
    warnings: [
      ...mountSet.warnings,
      ...process.warnings,
      ...linux.warnings,
      ...stop.warnings,
      ...context.share.warnings,
    ],
    user: { uid: user.uid, gid: user.gid, supplementalGroups: user.supplementalGroups },
    stopSignal: stop.name,
  }
}

const containerMounts = (input: ContainerSpecInput, context: Context, accounts: UserFiles): MountSet =>
  mounts({
    requested: input.container.mounts,
    sources: input.mountSources ?? new Map(),
    features: input.features,
    recursiveReadOnlyMounts: input.host.recursiveReadOnlyMounts,
    privileged: context.privileged,
    readonlyRootfs: context.readonlyRootfs,
    bindSys: context.mappings !== undefined && context.modes.net === 'host',
    etcFiles: input.etcFiles,
    writableCgroup: context.share.writableCgroup,
    own: [
      ...(context.mappings ? boundDevices(input.devices ?? []) : []),
      ...(input.ownMounts ?? []),
      ...context.share.mounts,
      ...accountMounts(input, context.readonlyRootfs, accounts),
    ],
  })
