/**
 * Devices of a container in a user namespace. Its root may make no nodes there, so the OCI runtime mounts the node that
 * the host has at the same path. One that shall be seen elsewhere would become whatever device the host has there: we
 * mount it ourselves.
 */
import type { ResolvedDevice } from './host.ts'
import type { OciMount } from './types.ts'

export const isElsewhere = ({ device, containerPath }: ResolvedDevice): boolean => device.path !== containerPath

/** Mounts in place of the device nodes for which `isElsewhere`. */
export const boundDevices = (resolved: readonly ResolvedDevice[]): OciMount[] =>
  resolved.filter(isElsewhere).map(({ device, containerPath }) => ({
    destination: containerPath,
    type: 'bind',
    source: device.path,
    options: ['bind', 'nosuid', 'noexec', 'rprivate'],
  }))
