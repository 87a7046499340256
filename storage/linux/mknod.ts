/** Device nodes, FIFOs and device numbers. */
import { AT_FDCWD, type PathLike, pathArgument, sysOn } from './sys.ts'

const TYPES = { fifo: 0o010000, char: 0o020000, block: 0o060000 } as const

export interface NodeRequest {
  type: keyof typeof TYPES
  /** Permission bits, exactly these whatever the umask. */
  mode: number
  major?: number
  minor?: number
}

/** The kernel's 32-bit encoding of a device number: 12 bits of major, 20 of minor. */
export const makeDevice = (major: number, minor: number): number => {
  const fits =
    Number.isInteger(major) && Number.isInteger(minor) && major >= 0 && minor >= 0 && major <= 0xfff && minor <= 0xfffff
  if (!fits) throw new RangeError(`device number "${major}:${minor}" is out of range`)
  return ((minor & 0xff) | (major << 8) | ((minor & 0xfff00) << 12)) >>> 0
}

export const deviceMajor = (device: number): number => (device >>> 8) & 0xfff
export const deviceMinor = (device: number): number => (device & 0xff) | ((device >>> 12) & 0xfff00)

/** Creates a node. Throws EEXIST when something is there. The last component must not be in a directory others can write to. */
export const mknod = (path: PathLike, { type, mode, major = 0, minor = 0 }: NodeRequest): void => {
  const name = pathArgument(path)
  sysOn(path, 'mknodat', AT_FDCWD, name, TYPES[type] | (mode & 0o7777), makeDevice(major, minor))
  // The umask took bits away.
  sysOn(path, 'fchmodat', AT_FDCWD, name, mode & 0o7777)
}
