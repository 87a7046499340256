/** The mount table of the calling thread's mount namespace. */
import { readBounded } from './read-bounded.ts'
import { AT_FDCWD, rawSys, sysError } from './sys.ts'

export interface MountInfo {
  id: number
  parent: number
  /** Device as "major:minor". */
  device: string
  /** The directory within the filesystem that is shown. */
  root: string
  mountpoint: string
  /** Flags of the mount itself. */
  options: string[]
  fsType: string
  source: string
  /** Options of the filesystem. */
  superOptions: string[]
  /** As the kernel spells it: "shared:1", "master:2", "propagate_from:2", "unbindable"; empty for private. */
  propagation: string[]
}

// 100,000 mounts, the kernel's default limit, at 600 bytes each.
const MAX_TABLE = 64 * 1024 * 1024
const AT_SYMLINK_NOFOLLOW = 0x100
const AT_NO_AUTOMOUNT = 0x800
const STATX_ATTR_MOUNT_ROOT = 0x2000n

const unescapeOctal = (text: string): string =>
  text.includes('\\')
    ? text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
    : text

/** Parses one line of mountinfo; undefined for a line that is not one. */
export const parseMountInfoLine = (line: string): MountInfo | undefined => {
  const fields = line.split(' ')
  // Optional fields, as many as there are, end at a single hyphen.
  const hyphen = fields.indexOf('-', 6)
  const [id, parent, device, root, mountpoint, options] = fields
  const [fsType, source, superOptions] = hyphen < 0 ? [] : fields.slice(hyphen + 1)
  if (device === undefined || root === undefined || mountpoint === undefined || options === undefined) return undefined
  if (fsType === undefined || source === undefined || superOptions === undefined) return undefined
  return {
    id: Number(id),
    parent: Number(parent),
    device,
    root: unescapeOctal(root),
    mountpoint: unescapeOctal(mountpoint),
    options: options.split(','),
    fsType,
    source: unescapeOctal(source),
    superOptions: superOptions.split(','),
    propagation: fields.slice(6, hyphen),
  }
}

/** All mounts, parents before children. Costs milliseconds on a node with thousands of mounts: prefer `isMountpoint`. */
export const readMountInfo = (): MountInfo[] =>
  readBounded('/proc/thread-self/mountinfo', MAX_TABLE)
    .toString()
    .split('\n')
    .flatMap((line) => parseMountInfoLine(line) ?? [])

/**
 * The mounts of filesystems whose type begins like one of these. Looks at no other line: a monitor that took thousands of them apart to
 * find the one mount it needs would spend more on that than on all the rest of its start.
 */
export const readMountsOfTypes = (types: readonly string[]): MountInfo[] => {
  const table = readBounded('/proc/thread-self/mountinfo', MAX_TABLE)
  return types.flatMap((type) => mountsOfType(table, Buffer.from(` - ${type}`)))
}

const mountsOfType = (table: Buffer, mark: Buffer): MountInfo[] => {
  const found: MountInfo[] = []
  for (let at = table.indexOf(mark); at >= 0; at = table.indexOf(mark, at + 1)) {
    const end = table.indexOf('\n', at)
    const line = table.toString('utf8', table.lastIndexOf('\n', at) + 1, end < 0 ? table.length : end)
    // No name holds the mark: the kernel writes its spaces in octal.
    const mount = parseMountInfoLine(line)
    if (mount !== undefined) found.push(mount)
  }
  return found
}

/** Whether a mount's root is at this path (a bind mount of a file counts too). False when nothing is there. */
export const isMountpoint = (path: string): boolean => {
  const statx = Buffer.alloc(256)
  const result = rawSys('statx', AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, statx)
  if (result >= 0) return (statx.readBigUInt64LE(8) & STATX_ATTR_MOUNT_ROOT) !== 0n
  const error = sysError(result, 'statx', path)
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return false
  throw error
}
