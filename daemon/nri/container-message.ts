/** A container as plugins are told of it: what was asked for, what its OCI spec says, and how it is. */

import { SecurityProfile_ProfileType as CriProfileType } from '#proto/generated/api.ts'
import {
  type Container,
  ContainerState,
  type Hooks,
  IOPrioClass,
  type LinuxContainer,
  LinuxSchedulerFlag,
  LinuxSchedulerPolicy,
  type LinuxSeccomp,
  Container as Message,
  SecurityProfile_ProfileType,
} from '#proto/generated/nri.ts'
import type { ContainerRecord, ContainerStatus } from '../container/container.ts'
import { cdiDeviceNames } from '../oci/cdi/device-names.ts'
import type { OciProcess, OciRdt, OciSeccomp, OciSpec } from '../oci/spec/types.ts'
import { fromOci } from './resource-message.ts'

export interface ToldContainer {
  readonly record: ContainerRecord
  readonly status: ContainerStatus
  /** Absent when its file is gone, as for a container that is being removed. */
  readonly spec: OciSpec | undefined
}

export function containerMessage({ record, status, spec }: ToldContainer): Container {
  const { id, sandboxId, config, createdAt, imageId, imageRef } = record
  const exit = status.state === 'exited' ? status : undefined
  const digest = /sha256:[0-9a-f]{64}$/.exec(imageRef)?.[0] ?? ''
  return Message.create({
    id,
    podSandboxId: sandboxId,
    name: config.metadata?.name ?? '',
    state: stateOf(status),
    labels: config.labels,
    annotations: { ...config.annotations, ...spec?.annotations },
    args: [...(spec?.process.args ?? [])],
    env: [...(spec?.process.env ?? [])],
    mounts: (spec?.mounts ?? []).map(({ destination, type, source, options }) => ({
      destination,
      type,
      source,
      options: [...options],
    })),
    hooks: spec?.hooks && hooksMessage(spec.hooks),
    linux: spec && linuxMessage(spec, config.linux?.securityContext?.seccomp),
    pid: 'init' in status ? (status.init?.pid ?? 0) : 0,
    rlimits: (spec?.process.rlimits ?? []).map(({ type, soft, hard }) => ({
      type,
      soft: uint64(soft),
      hard: uint64(hard),
    })),
    createdAt,
    startedAt: ('startedAt' in status ? status.startedAt : undefined) ?? 0n,
    finishedAt: exit?.finishedAt ?? 0n,
    exitCode: exit?.exitCode ?? 0,
    statusReason: exit?.reason ?? '',
    statusMessage: exit?.message ?? '',
    cdiDevices: cdiDeviceNames(config).map((name) => ({ name })),
    user: spec && {
      uid: spec.process.user.uid,
      gid: spec.process.user.gid,
      additionalGids: [...spec.process.user.additionalGids],
    },
    image: {
      name: config.image?.userSpecifiedImage || config.image?.image || imageId,
      digest,
      configDigest: imageId.startsWith('sha256:') ? imageId : `sha256:${imageId}`,
    },
  })
}

function stateOf({ state }: ContainerStatus): ContainerState {
  switch (state) {
    case 'creating':
    case 'created':
      return ContainerState.CONTAINER_CREATED
    case 'running':
      return ContainerState.CONTAINER_RUNNING
    case 'exited':
      return ContainerState.CONTAINER_STOPPED
  }
}

const MAX_UINT64 = 2n ** 64n - 1n

/** "No limit" is Infinity, and what a JSON parser makes of 2^64-1 where it was read. */
const uint64 = (value: number): bigint =>
  Number.isFinite(value) && value < 2 ** 64 ? BigInt(Math.max(0, value)) : MAX_UINT64

function hooksMessage(hooks: NonNullable<OciSpec['hooks']>): Hooks {
  const list = (stage: keyof typeof hooks) =>
    (hooks[stage] ?? []).map(({ path, args = [], env = [], timeout }) => ({
      path,
      args: [...args],
      env: [...env],
      timeout: timeout === undefined ? undefined : { value: BigInt(timeout) },
    }))
  return {
    prestart: list('prestart'),
    createRuntime: list('createRuntime'),
    createContainer: list('createContainer'),
    startContainer: list('startContainer'),
    poststart: list('poststart'),
    poststop: list('poststop'),
  }
}

type Profile = { profileType: CriProfileType; localhostRef: string } | undefined

function linuxMessage({ process, linux }: OciSpec, profile: Profile): LinuxContainer {
  return {
    namespaces: linux.namespaces.map(({ type, path = '' }) => ({ type, path })),
    devices: linux.devices.map(({ path, type, major, minor, fileMode, uid, gid }) => ({
      path,
      type,
      major: BigInt(major),
      minor: BigInt(minor),
      fileMode: fileMode === undefined ? undefined : { value: fileMode },
      uid: uid === undefined ? undefined : { value: uid },
      gid: gid === undefined ? undefined : { value: gid },
    })),
    resources: fromOci(linux.resources),
    oomScoreAdj: { value: BigInt(process.oomScoreAdj) },
    cgroupsPath: linux.cgroupsPath,
    ioPriority: process.ioPriority && {
      class: numberOf(IOPrioClass, process.ioPriority.class),
      priority: process.ioPriority.priority,
    },
    seccompProfile: {
      profileType: profileType(profile),
      localhostRef: profile?.localhostRef ?? '',
    },
    seccompPolicy: linux.seccomp && seccompMessage(linux.seccomp),
    sysctl: { ...linux.sysctl },
    netDevices: Object.fromEntries(
      Object.entries(linux.netDevices ?? {}).map(([key, { name = '' }]) => [key, { name }]),
    ),
    scheduler: process.scheduler && schedulerMessage(process.scheduler),
    rdt: linux.intelRdt && rdtMessage(linux.intelRdt),
  }
}

/** Without a word of the pod's there is no filter, which the kubelet's own default may be. */
function profileType(profile: Profile): SecurityProfile_ProfileType {
  switch (profile?.profileType) {
    case CriProfileType.RuntimeDefault:
      return SecurityProfile_ProfileType.RUNTIME_DEFAULT
    case CriProfileType.Localhost:
      return SecurityProfile_ProfileType.LOCALHOST
    default:
      return SecurityProfile_ProfileType.UNCONFINED
  }
}

function seccompMessage(filter: OciSeccomp): LinuxSeccomp {
  const errno = (value: number | undefined) => (value === undefined ? undefined : { value })
  return {
    defaultAction: filter.defaultAction,
    defaultErrno: errno(filter.defaultErrnoRet),
    architectures: [...filter.architectures],
    flags: [...(filter.flags ?? [])],
    listenerPath: filter.listenerPath ?? '',
    listenerMetadata: filter.listenerMetadata ?? '',
    syscalls: filter.syscalls.map(({ names, action, errnoRet, args = [] }) => ({
      names: [...names],
      action,
      errnoRet: errno(errnoRet),
      args: args.map(({ index, value, valueTwo = 0, op }) => ({
        index,
        value: BigInt(value),
        valueTwo: BigInt(valueTwo),
        op,
      })),
    })),
  }
}

/** The number behind a word of the OCI specification; words that there are not are 0, "none". */
const numberOf = <T extends number>(words: Readonly<Record<string, T>>, word: string): T | 0 =>
  Object.hasOwn(words, word) ? (words[word] ?? 0) : 0

const schedulerMessage = (scheduler: NonNullable<OciProcess['scheduler']>) => ({
  policy: numberOf(LinuxSchedulerPolicy, scheduler.policy),
  nice: scheduler.nice ?? 0,
  priority: scheduler.priority ?? 0,
  flags: (scheduler.flags ?? []).map((flag) => numberOf(LinuxSchedulerFlag, flag)),
  runtime: BigInt(scheduler.runtime ?? 0),
  deadline: BigInt(scheduler.deadline ?? 0),
  period: BigInt(scheduler.period ?? 0),
})

const rdtMessage = ({ closID, schemata, enableMonitoring }: Partial<OciRdt>) => ({
  closId: closID === undefined ? undefined : { value: closID },
  schemata: schemata && { value: [...schemata] },
  enableMonitoring: enableMonitoring === undefined ? undefined : { value: enableMonitoring },
  remove: false,
})
