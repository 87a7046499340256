/**
 * The OCI spec of a container, from what was asked for and what the host is. Pure: equal inputs give equal specs. Whatever
 * was asked for is in the spec, or the call throws, or (where the CRI lets a runtime do less) a warning says so.
 */
import type { ContainerConfig, PodSandboxConfig } from '#proto/generated/api.ts'
import type { AllowedAnnotations } from '../annotations/allow.ts'
import { accountFiles } from './account-files.ts'
import { containerAnnotations } from './annotations.ts'
import { apparmor } from './apparmor.ts'
import { boundDevices, isElsewhere } from './bound-devices.ts'
import { capabilities } from './capabilities.ts'
import { configuredMount } from './configured-mounts.ts'
import type { EtcFiles } from './default-mounts.ts'
import { deviceSet } from './devices.ts'
import type { HostDevice, MountSource, ResolvedDevice, SpecFeatures, SpecHost } from './host.ts'
import { protectedPaths } from './masked-paths.ts'
import { type MountSet, mounts } from './mounts.ts'
import { type NamespaceModes, type NamespaceRefs, namespaceModes, namespaces } from './namespaces.ts'
import { type NodeOptions, type NodeShare, nodeShare } from './node-options.ts'
import { commandLine, environment, type ImageDefaults, workingDirectory } from './process.ts'
import { impossible, invalid } from './refuse.ts'
import { oomScoreAdj, resourceLimits, withoutQuota } from './resources.ts'
import { clampRlimits } from './rlimits.ts'
import type { UserFiles } from './rootfs-user.ts'
import { type ProfileFile, seccomp } from './seccomp.ts'
import { notifying } from './seccomp-notify.ts'
import { type SelinuxLabels, selinuxLabels } from './selinux.ts'
import { stopSignal } from './stop-signal.ts'
import type { OciLinux, OciMount, OciProcess, OciRlimit, OciSpec } from './types.ts'
import { type ContainerUser, containerUser } from './user.ts'
import { checkMapped, type UserMappings, userMappings } from './user-namespace.ts'
import { validateContainerConfig } from './validate.ts'

export interface ContainerSpecInput {
  readonly id: string
  readonly sandboxId: string
  readonly container: ContainerConfig
  readonly sandbox: PodSandboxConfig
  readonly image: ImageDefaults
  /** What the user called the image. */
  readonly imageName: string
  readonly host: SpecHost
  readonly features: SpecFeatures
  /** Where the rootfs is mounted, and the texts of its account files where they exist. */
  readonly rootfs: { readonly path: string; readonly passwd?: string | undefined; readonly group?: string | undefined }
  readonly namespaces: NamespaceRefs
  /** What the pod calls itself. */
  readonly hostname: string
  readonly etcFiles: EtcFiles
  readonly cgroupsPath: string
  /** The requested devices and mount sources, looked up on the host; see `../resolve-devices.ts`, `../resolve-mounts.ts`. */
  readonly devices?: readonly ResolvedDevice[]
  readonly mountSources?: ReadonlyMap<number, MountSource>
  /** Every device of the host; needed for privileged containers. */
  readonly hostDevices?: readonly HostDevice[]
  /** The text of the file that `localhostSeccompPath` names. */
  readonly localhostSeccomp?: string
  readonly pidsLimit?: number | undefined
  /** What the configuration adds to every container. */
  readonly defaultEnv?: readonly string[]
  readonly rlimits?: readonly OciRlimit[]
  readonly ownMounts?: readonly OciMount[]
  /** Instead of ours, from the configuration. */
  readonly defaultSeccomp?: ProfileFile
  readonly privilegedSeccomp?: ProfileFile
  /** Whether device nodes belong to the container's user. */
  readonly deviceOwnership?: boolean
  /** Whether privileged containers get the devices of the host. */
  readonly privilegedDevices?: boolean
  /** Where the files of `BuiltContainer.accountFiles` will lie; without it none are made. */
  readonly accountFilePaths?: { readonly passwd: string; readonly group: string }
  /** The SELinux level that the containers of the pod share. */
  readonly selinuxLevel?: string
  /** What the pod asks for by annotations, as far as they are allowed. */
  readonly annotations?: AllowedAnnotations
  /** What the configuration of this node adds; see `node-options.ts`. */
  readonly node?: NodeOptions
}

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

/** What several parts ask for. */
interface Context {
  readonly security: NonNullable<ContainerConfig['linux']>['securityContext']
  readonly privileged: boolean
  readonly readonlyRootfs: boolean
  readonly modes: NamespaceModes
  readonly mappings: UserMappings | undefined
  readonly share: NodeShare
}

interface Part<T> {
  readonly value: T
  readonly warnings: readonly string[]
}

const contextOf = (input: ContainerSpecInput): Context => {
  const { container, sandbox } = input
  const security = container.linux?.securityContext
  if (security?.privileged && !sandbox.linux?.securityContext?.privileged) {
    throw invalid('linux.security_context.privileged is set, but the sandbox is not privileged')
  }
  return {
    security,
    privileged: security?.privileged ?? false,
    readonlyRootfs: security?.readonlyRootfs ?? false,
    modes: namespaceModes(container, sandbox),
    mappings: userMappings(sandbox.linux?.securityContext?.namespaceOptions?.usernsOptions),
    share: nodeShare({ ...input, asked: input.annotations?.features ?? {}, node: input.node ?? {} }),
  }
}

const labelsOf = (input: ContainerSpecInput, { security, modes }: Context): SelinuxLabels =>
  selinuxLabels({
    container: security,
    sandbox: input.sandbox.linux?.securityContext,
    host: input.host,
    podLevel: input.selinuxLevel,
    sharesNode: modes.pid === 'host' || modes.ipc === 'host',
  })

const mappedUser = (input: ContainerSpecInput, { security, mappings }: Context): ContainerUser => {
  const { passwd, group } = input.rootfs
  const user = containerUser({ security, imageUser: input.image.user, passwd, group })
  if (mappings) {
    checkMapped('User', user.uid, mappings.uids)
    for (const gid of user.supplementalGroups) checkMapped('Group', gid, mappings.gids)
  }
  return user
}

const generatedAccounts = (
  input: ContainerSpecInput,
  { uid, gid }: ContainerUser,
  env: readonly string[],
): UserFiles => {
  if (!input.accountFilePaths) return {}
  const home = env.findLast((entry) => entry.startsWith('HOME='))?.slice('HOME='.length) ?? '/'
  const homeIsRequested = input.container.envs.some(({ key }) => key === 'HOME')
  return accountFiles({ files: input.rootfs, uid, gid, home, homeIsRequested })
}

/** A mount of the request at the same place replaces it. */
const accountMounts = ({ accountFilePaths }: ContainerSpecInput, readonly: boolean, files: UserFiles): OciMount[] =>
  (['passwd', 'group'] as const).flatMap((name) =>
    accountFilePaths && files[name] !== undefined
      ? [configuredMount({ source: accountFilePaths[name], destination: `/etc/${name}`, readonly })]
      : [],
  )

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

const containerProcess = (input: ContainerSpecInput, context: Context, user: ContainerUser): Part<OciProcess> => {
  const { container, image, host } = input
  const { security, privileged, share } = context
  const oom = oomScoreAdj(container.linux?.resources?.oomScoreAdj ?? 0n, host)
  const armor = apparmor(security, host)
  const { process: selinuxLabel } = labelsOf(input, context)
  const granted = capabilities({ privileged, requested: security?.capabilities, host: host.capabilities })
  const noNewPrivileges = security?.noNewPrivs ?? false
  const rlimits = clampRlimits(input.rlimits ?? [], host.hardLimits)
  const isPointless = noNewPrivileges && (privileged || granted.effective.includes('CAP_SYS_ADMIN'))
  return {
    value: {
      terminal: container.tty,
      user: {
        uid: user.uid,
        gid: user.gid,
        additionalGids: user.supplementalGroups,
        ...(share.umask !== undefined && { umask: share.umask }),
      },
      args: commandLine(container, image),
      env: environment({
        config: container,
        image,
        hostname: input.hostname,
        home: user.home,
        defaults: input.defaultEnv,
        fallbacks: share.env,
      }),
      cwd: workingDirectory(container, image),
      capabilities: granted,
      noNewPrivileges,
      oomScoreAdj: oom.value,
      ...(share.execCPUAffinity && { execCPUAffinity: share.execCPUAffinity }),
      ...(rlimits.length > 0 && { rlimits }),
      ...(armor.profile !== undefined && { apparmorProfile: armor.profile }),
      ...(selinuxLabel !== undefined && { selinuxLabel }),
    },
    warnings: [
      ...oom.warnings,
      ...armor.warnings,
      ...(isPointless ? ['no_new_privs does not confine a container that has CAP_SYS_ADMIN'] : []),
    ],
  }
}

const containerLinux = (
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
