/** Where a container's cgroup is: as the OCI spec spells it, and as a path below the cgroup mounts. Pure. */
import { posix } from 'node:path'

/** Scopes of ours are called cricket-<id>.scope. */
const scopePrefix = 'cricket'

/** The slice of a pod that names none. */
const defaultSlice = 'system.slice'

/**
 * `linux.cgroupsPath` of the OCI spec: `<parent>/<id>` for cgroupfs, `<slice>:cricket:<id>` for systemd
 * (runc, docs/systemd.md).
 * @param parent the CRI's cgroup_parent; for systemd the last component of it names the slice
 */
export function cgroupsPath(driver: 'cgroupfs' | 'systemd', parent: string, id: string): string {
  if (driver === 'cgroupfs') return posix.join('/', parent, id)
  return `${posix.basename(parent) || defaultSlice}:${scopePrefix}:${id}`
}

/** The same cgroup as a path below the mount point of a hierarchy. */
export function hostCgroupPath(ociPath: string): string {
  const [slice, prefix, name] = ociPath.split(':')
  if (slice === undefined || prefix === undefined || name === undefined) return ociPath
  return posix.join(slicePath(slice), `${prefix}-${name}.scope`)
}

/** systemd nests slices by the dashes of their names: a-b.slice is a.slice/a-b.slice (systemd.slice(5)). */
function slicePath(slice: string): string {
  const parts = slice.replace(/\.slice$/, '').split('-')
  if (slice === '-.slice') return '/'
  return posix.join('/', ...parts.map((_, i) => `${parts.slice(0, i + 1).join('-')}.slice`))
}
