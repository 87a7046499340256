/** The adjustments that only Linux has: namespaces, devices, seccomp, sysctls, scheduling, cache, network devices. */
import {
  IOPrioClass,
  type LinuxContainerAdjustment,
  type LinuxDevice,
  LinuxSchedulerFlag,
  LinuxSchedulerPolicy,
  MpolFlag,
  MpolMode,
} from '#proto/generated/nri.ts'
import { absolutePath, boundedNumber, impossible, quoted } from '../oci/spec/refuse.ts'
import type {
  OciDevice,
  OciDeviceRule,
  OciLinux,
  OciNamespace,
  OciProcess,
  OciRdt,
  OciSeccomp,
} from '../oci/spec/types.ts'
import { adjustedTable } from './adjusted-table.ts'
import { removed } from './owners.ts'

export function adjustedProcess(process: OciProcess, linux: LinuxContainerAdjustment | undefined): OciProcess {
  const { ioPriority, scheduler, ...rest } = process
  const priority = linux?.ioPriority
    ? { class: wordOf(IOPrioClass, linux.ioPriority.class), priority: linux.ioPriority.priority }
    : ioPriority
  const schedule = linux?.scheduler ? ociScheduler(linux.scheduler) : scheduler
  return {
    ...rest,
    // Class "none" takes it away, as does the scheduling policy of that name.
    ...(priority && priority.class !== 'IOPRIO_CLASS_NONE' && { ioPriority: priority }),
    ...(schedule && schedule.policy !== 'SCHED_NONE' && { scheduler: schedule }),
  }
}

const ociScheduler = (scheduler: NonNullable<LinuxContainerAdjustment['scheduler']>) => ({
  policy: wordOf(LinuxSchedulerPolicy, scheduler.policy),
  nice: scheduler.nice,
  priority: scheduler.priority,
  flags: scheduler.flags.map((flag) => wordOf(LinuxSchedulerFlag, flag)),
  runtime: scheduler.runtime,
  deadline: scheduler.deadline,
  period: scheduler.period,
})

/** @throws RuntimeError failed-precondition for a number that has no word */
const wordOf = (words: Readonly<Record<string, number>>, value: number): string => {
  const word = Object.entries(words).find(([, number]) => number === value)?.[0]
  if (word === undefined || word === 'UNRECOGNIZED')
    throw impossible(`NRI plugins: ${value} is none of ${Object.keys(words)}`)
  return word
}

export function adjustedLinux(linux: OciLinux, wanted: LinuxContainerAdjustment): OciLinux {
  const devices = adjustedDevices(linux, wanted.devices)
  const sysctl = adjustedTable(linux.sysctl ?? {}, wanted.sysctl)
  const netDevices = adjustedNetDevices(linux.netDevices ?? {}, wanted.netDevices)
  const { intelRdt, ...rest } = linux
  const rdt = wanted.rdt ? adjustedRdt(intelRdt, wanted.rdt) : intelRdt
  const policy = wanted.memoryPolicy
  return {
    ...rest,
    ...devices,
    namespaces: adjustedNamespaces(linux.namespaces, wanted.namespaces),
    ...(Object.keys(sysctl).length > 0 && { sysctl }),
    ...(Object.keys(netDevices).length > 0 && { netDevices }),
    ...(wanted.cgroupsPath !== '' && { cgroupsPath: wanted.cgroupsPath }),
    ...(wanted.seccompPolicy && { seccomp: ociSeccomp(wanted.seccompPolicy) }),
    ...(rdt && { intelRdt: rdt }),
    ...(policy && {
      memoryPolicy: {
        mode: wordOf(MpolMode, policy.mode),
        nodes: policy.nodes,
        flags: policy.flags.map((flag) => wordOf(MpolFlag, flag)),
      },
    }),
  }
}

const NAMESPACES: readonly OciNamespace['type'][] = ['pid', 'network', 'ipc', 'uts', 'mount', 'user', 'cgroup']

function adjustedNamespaces(
  before: readonly OciNamespace[],
  wanted: LinuxContainerAdjustment['namespaces'],
): readonly OciNamespace[] {
  return wanted.reduce<readonly OciNamespace[]>((list, { type, path }) => {
    const gone = removed(type)
    const name = NAMESPACES.find((known) => known === (gone ?? type))
    if (!name) throw impossible(`NRI plugins: there is no namespace ${quoted(type)}`)
    const others = list.filter((other) => other.type !== name)
    if (gone !== undefined) return others
    return [...others, { type: name, ...(path !== '' && { path: absolutePath('NRI namespace', path) }) }]
  }, before)
}

function adjustedDevices({ devices, resources }: OciLinux, wanted: readonly LinuxDevice[]): Partial<OciLinux> {
  if (wanted.length === 0) return {}
  const gone = new Set(wanted.map(({ path }) => removed(path) ?? path))
  const added = wanted.filter(({ path }) => removed(path) === undefined).map(ociDevice)
  const rules: OciDeviceRule[] = added.map(({ type, major, minor }) => ({
    allow: true,
    type,
    major,
    minor,
    // As in the reference: a block device may be made by the container, a character device is there.
    access: type === 'b' ? 'rwm' : 'rw',
  }))
  return {
    devices: [...devices.filter(({ path }) => !gone.has(path)), ...added],
    resources: { ...resources, devices: [...(resources.devices ?? []), ...rules] },
  }
}

function ociDevice({ path, type, major, minor, fileMode, uid, gid }: LinuxDevice): OciDevice {
  if (type !== 'b' && type !== 'c')
    throw impossible(`NRI device ${quoted(path)}: type ${quoted(type)} is not "b" or "c"`)
  return {
    path: absolutePath('NRI device', path),
    type,
    major: boundedNumber('NRI device major', major, 0, 2 ** 32 - 1),
    minor: boundedNumber('NRI device minor', minor, 0, 2 ** 32 - 1),
    // Go writes the file type into the bits above.
    ...(fileMode && { fileMode: fileMode.value & 0o7777 }),
    ...(uid && { uid: uid.value }),
    ...(gid && { gid: gid.value }),
  }
}

function adjustedNetDevices(
  before: NonNullable<OciLinux['netDevices']>,
  wanted: LinuxContainerAdjustment['netDevices'],
): NonNullable<OciLinux['netDevices']> {
  const gone = new Set(Object.keys(wanted).flatMap((key) => removed(key) ?? []))
  const kept = Object.entries(before).filter(([key]) => !gone.has(key))
  const added = Object.entries(wanted).flatMap(([key, { name }]) =>
    removed(key) === undefined ? [[key, name === '' ? {} : { name }] as const] : [],
  )
  return Object.fromEntries([...kept, ...added])
}

function adjustedRdt(
  before: Partial<OciRdt> | undefined,
  wanted: NonNullable<LinuxContainerAdjustment['rdt']>,
): Partial<OciRdt> | undefined {
  const { closId, schemata, enableMonitoring, remove } = wanted
  const rdt = {
    ...(remove ? undefined : before),
    ...(closId && { closID: closId.value }),
    ...(schemata && { schemata: schemata.value }),
    ...(enableMonitoring && { enableMonitoring: enableMonitoring.value }),
  }
  return Object.keys(rdt).length > 0 ? rdt : undefined
}

const ociSeccomp = (policy: NonNullable<LinuxContainerAdjustment['seccompPolicy']>): OciSeccomp => ({
  defaultAction: policy.defaultAction,
  ...(policy.defaultErrno && { defaultErrnoRet: policy.defaultErrno.value }),
  architectures: policy.architectures,
  ...(policy.flags.length > 0 && { flags: policy.flags }),
  ...(policy.listenerPath !== '' && { listenerPath: policy.listenerPath }),
  ...(policy.listenerMetadata !== '' && { listenerMetadata: policy.listenerMetadata }),
  syscalls: policy.syscalls.map(({ names, action, errnoRet, args }) => ({
    names,
    action,
    ...(errnoRet && { errnoRet: errnoRet.value }),
    ...(args.length > 0 && { args }),
  })),
})
