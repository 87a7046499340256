/** Where a container's cgroup lies: the text for the OCI spec, and the path below the cgroup mount. */
import { posix } from 'node:path'
import { hasControlCharacters, invalid, quoted } from './spec/refuse.ts'

export type CgroupDriver = 'cgroupfs' | 'systemd'

/** Part of unit names: `cricket-<id>.scope`. */
const SCOPE_PREFIX = 'cricket'

/**
 * `cgroupsPath` of the OCI spec: "<parent>/<id>", or "<slice>:cricket:<id>" for systemd.
 * @param parent as the kubelet names it for its own driver; empty for clients that do not care
 * @throws RuntimeError invalid-argument when the parent does not fit the driver
 */
export const cgroupsPath = (driver: CgroupDriver, parent: string, id: string): string => {
  if (hasControlCharacters(parent) || parent.split('/').includes('..') || parent.includes(':')) {
    throw invalid(`cgroup_parent ${quoted(parent)} is malformed`)
  }
  return driver === 'systemd' ? systemdPath(parent || 'system.slice', id) : cgroupfsPath(parent || '/cricket', id)
}

const cgroupfsPath = (parent: string, id: string): string => {
  if (posix.basename(parent).endsWith('.slice')) {
    throw invalid(`cgroup_parent ${quoted(parent)} is a systemd slice, but the cgroup driver is cgroupfs`)
  }
  return posix.join('/', parent, id)
}

const systemdPath = (parent: string, id: string): string => {
  const slice = posix.basename(parent)
  if (!/^[A-Za-z0-9:_.@\\-]+\.slice$/.test(slice) || slice.includes('--') || slice.startsWith('-')) {
    if (slice !== '-.slice') throw invalid(`cgroup_parent ${quoted(parent)} is not a systemd slice`)
  }
  return `${slice}:${SCOPE_PREFIX}:${id}`
}

/**
 * The path of that cgroup below each cgroup mount.
 * systemd nests "a-b.slice" in "a.slice"; what follows is its rule, spelled out.
 */
export const hostCgroupPath = (path: string): string => {
  const [slice, prefix, id] = path.split(':')
  if (slice === undefined || prefix === undefined || id === undefined) return path
  return `${slicePath(slice)}/${prefix}-${id}.scope`
}

const slicePath = (slice: string): string => {
  if (slice === '-.slice') return ''
  const parts = slice.slice(0, -'.slice'.length).split('-')
  return parts.map((_, index) => `/${parts.slice(0, index + 1).join('-')}.slice`).join('')
}
