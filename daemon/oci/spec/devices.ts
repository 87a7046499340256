/** Device nodes of the container and what its cgroup lets it do with devices. */
import type { ContainerConfig } from '#proto/generated/api.ts'
import type { HostDevice, ResolvedDevice } from './host.ts'
import { impossible, invalid, quoted } from './refuse.ts'
import type { OciDevice, OciDeviceRule } from './types.ts'

export interface DeviceInput {
  readonly privileged: boolean
  readonly requested: ContainerConfig['devices']
  /** The requested devices, found on the host; every request must be among them. */
  readonly resolved: readonly ResolvedDevice[]
  /** Every device of the host; needed for privileged containers. */
  readonly hostDevices: readonly HostDevice[] | undefined
  /** Who the requested devices shall belong to; without it, to whom they belong on the host. */
  readonly owner?: { readonly uid: number; readonly gid: number }
}

export interface DeviceSet {
  readonly devices: readonly OciDevice[]
  readonly rules: readonly OciDeviceRule[]
}

const DENY_ALL: OciDeviceRule = { allow: false, access: 'rwm' }
const ALLOW_ALL: OciDeviceRule = { allow: true, access: 'rwm' }

const character = (major: number, minor?: number): OciDeviceRule => ({
  allow: true,
  type: 'c',
  major,
  ...(minor !== undefined && { minor }),
  access: 'rwm',
})

/** null, zero, full, random, urandom, tty, console, ptmx and every pts: the nodes themselves are made by the runtime. */
const STANDARD: readonly OciDeviceRule[] = [
  character(1, 3),
  character(1, 5),
  character(1, 7),
  character(1, 8),
  character(1, 9),
  character(5, 0),
  character(5, 1),
  character(5, 2),
  character(136),
]

export const checkAccess = (field: string, permissions: string): void => {
  if (!/^[rwm]{1,3}$/.test(permissions))
    throw invalid(`${field} ${quoted(permissions)} is not made of "r", "w" and "m"`)
}

/** "/dev/x", "/dev/x:/dev/y" or "/dev/x:/dev/y:rwm", as a request would ask for it. undefined when it has not that form. */
export const parseConfiguredDevice = (text: string): ContainerConfig['devices'][number] | undefined => {
  const [, hostPath, containerPath, permissions = 'rwm'] =
    /^(\/[^:\0]+)(?::(\/[^:\0]+))?(?::([rwm]{1,3}))?$/.exec(text) ?? []
  return hostPath === undefined ? undefined : { hostPath, containerPath: containerPath ?? hostPath, permissions }
}

/** @throws RuntimeError invalid-argument, failed-precondition when a requested device was not found */
export const deviceSet = ({ privileged, requested, resolved, hostDevices, owner }: DeviceInput): DeviceSet => {
  for (const [index, device] of requested.entries()) {
    checkAccess(`devices[${index}].permissions`, device.permissions)
    if (!resolved.some((found) => isFor(found, device.containerPath || device.hostPath))) {
      throw impossible(`Device ${quoted(device.hostPath)} was not found on this host`)
    }
  }
  const nodes = new Map<string, OciDevice>()
  if (privileged) {
    if (!hostDevices) throw impossible("A privileged container needs the list of the host's devices")
    for (const device of hostDevices) nodes.set(device.path, node(device, device.path))
  }
  for (const { device, containerPath } of resolved) {
    nodes.set(containerPath, node({ ...device, ...(owner && { uid: owner.uid, gid: owner.gid }) }, containerPath))
  }
  return {
    devices: [...nodes.values()],
    rules: privileged ? [ALLOW_ALL] : [DENY_ALL, ...STANDARD, ...resolved.map(rule)],
  }
}

const isFor = (found: ResolvedDevice, containerPath: string): boolean =>
  found.containerPath === containerPath || found.containerPath.startsWith(`${containerPath}/`)

const node = ({ type, major, minor, mode, uid, gid }: HostDevice, path: string): OciDevice => ({
  path,
  type,
  major,
  minor,
  fileMode: mode,
  uid,
  gid,
})

const rule = ({ device, access }: ResolvedDevice): OciDeviceRule => ({
  allow: true,
  type: device.type,
  major: device.major,
  minor: device.minor,
  access,
})
