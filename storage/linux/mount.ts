/** Mounting by the classic calls: binds, tmpfs, propagation, unmounting. Overlays are in overlay.ts, the mount table in mount-info.ts. */
import { rawSys, sysError, sysOn } from './sys.ts'

export { isMountpoint, type MountInfo, readMountInfo } from './mount-info.ts'
export { mountOverlay, type OverlayMount } from './overlay.ts'

const FLAGS = {
  ro: 0x1,
  nosuid: 0x2,
  nodev: 0x4,
  noexec: 0x8,
  sync: 0x10,
  remount: 0x20,
  nosymfollow: 0x100,
  noatime: 0x400,
  nodiratime: 0x800,
  bind: 0x1000,
  move: 0x2000,
  rec: 0x4000,
  unbindable: 1 << 17,
  private: 1 << 18,
  slave: 1 << 19,
  shared: 1 << 20,
  relatime: 1 << 21,
  strictatime: 1 << 24,
} as const

export type MountFlag = keyof typeof FLAGS
export type Propagation = 'private' | 'slave' | 'shared' | 'unbindable'

const MNT_DETACH = 2
const UMOUNT_NOFOLLOW = 8
const AT_RECURSIVE = 0x8000
const AT_SYMLINK_NOFOLLOW = 0x100
const MOUNT_ATTR_RDONLY = 1

const flagBits = (flags: readonly MountFlag[]): number => flags.reduce((bits, flag) => bits | FLAGS[flag], 0)

export interface MountRequest {
  source: string
  target: string
  /** Filesystem type; none for binds, moves and remounts. */
  type?: string
  flags?: readonly MountFlag[]
  /** Options of the filesystem, comma separated. At most one page. */
  data?: string
}

/** mount(2). Throws LinuxError naming the target. */
export const mount = ({ source, target, type, flags = [], data }: MountRequest): void => {
  sysOn(target, 'mount', source, target, type ?? null, flagBits(flags), data ?? null)
}

/**
 * Shows `source` at `target` (both directories, or both not). Read-only is applied to the new mount only, never to the
 * source; when that fails the bind is taken back.
 */
export const bindMount = (
  source: string,
  target: string,
  { readonly = false, recursive = false }: { readonly?: boolean; recursive?: boolean } = {},
): void => {
  mount({ source, target, flags: recursive ? ['bind', 'rec'] : ['bind'] })
  if (!readonly) return
  try {
    remountReadonly(target, { recursive })
  } catch (error) {
    unmount(target, { detach: true })
    throw error
  }
}

/** Makes a mount read-only and leaves its other attributes alone (mount_setattr, kernel 5.12); `recursive`: all mounts below it as well. */
export const remountReadonly = (target: string, { recursive = false }: { recursive?: boolean } = {}): void => {
  const attributes = Buffer.alloc(32)
  attributes.writeBigUInt64LE(BigInt(MOUNT_ATTR_RDONLY), 0)
  const flags = AT_SYMLINK_NOFOLLOW | (recursive ? AT_RECURSIVE : 0)
  sysOn(target, 'mount_setattr', -1, target, flags, attributes, attributes.length)
}

/** Changes flags of a mount (with 'bind') or flags and options of its filesystem. Flags that are not named are cleared. */
export const remount = (target: string, flags: readonly MountFlag[], data?: string): void => {
  mount({ source: 'none', target, flags: ['remount', ...flags], ...(data === undefined ? {} : { data }) })
}

/** Says whether mounts below `target` travel to and from other mount namespaces. */
export const setPropagation = (
  target: string,
  propagation: Propagation,
  { recursive = false }: { recursive?: boolean } = {},
): void => {
  mount({ source: 'none', target, flags: recursive ? [propagation, 'rec'] : [propagation] })
}

/**
 * Takes away the topmost mount at `target`, never following a symbolic link. `detach` does it even when the mount is busy.
 * Returns false when `target` was not a mount point or does not exist.
 */
export const unmount = (target: string, { detach = false }: { detach?: boolean } = {}): boolean => {
  const result = rawSys('umount2', target, UMOUNT_NOFOLLOW | (detach ? MNT_DETACH : 0))
  if (result >= 0) return true
  const error = sysError(result, 'umount2', target)
  if (error.code === 'EINVAL' || error.code === 'ENOENT' || error.code === 'ENOTDIR') return false
  throw error
}

/** Mounts a new tmpfs; nosuid, nodev and noexec unless other flags are given. `mode` is that of its root (0755). */
export const mountTmpfs = (
  target: string,
  { sizeBytes, mode = 0o755, flags = ['nosuid', 'nodev', 'noexec'], context }: TmpfsOptions = {},
): void => {
  const data = [
    `mode=${mode.toString(8)}`,
    ...(sizeBytes === undefined ? [] : [`size=${sizeBytes}`]),
    ...(context === undefined ? [] : [`context="${context}"`]),
  ]
  mount({ source: 'tmpfs', target, type: 'tmpfs', flags, data: data.join(',') })
}

export interface TmpfsOptions {
  sizeBytes?: number | bigint
  mode?: number
  flags?: readonly MountFlag[]
  /** The SELinux label of everything on it. */
  context?: string | undefined
}
