/** A directory as a mount that is in no mount namespace: nothing leads from its root upwards, and what is mounted below it is not there. */
import { AT_FDCWD, rawSys, sysError, sysOn } from './sys.ts'

const OPEN_TREE_CLONE = 1
const OPEN_TREE_CLOEXEC = 0o2000000
const AT_EMPTY_PATH = 0x1000
const ATTRIBUTES = { readonly: 0x1, nosuid: 0x2, nodev: 0x4, noexec: 0x8, nosymfollow: 0x200000 } as const

/**
 * Returns a close-on-exec descriptor; the mount goes with the last one that refers to it. No link on it is followed, by anybody,
 * where the kernel knows how (5.14); nothing on it can be executed.
 */
export const detachedMount = (path: string, { readonly = false }: { readonly?: boolean } = {}): number => {
  const fd = sysOn(path, 'open_tree', AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
  const always = ATTRIBUTES.nosuid | ATTRIBUTES.nodev | ATTRIBUTES.noexec | (readonly ? ATTRIBUTES.readonly : 0)
  const refused = setAttributes(fd, always | ATTRIBUTES.nosymfollow) && setAttributes(fd, always)
  if (refused === 0) return fd
  rawSys('close', fd)
  throw sysError(refused, 'mount_setattr', path)
}

const setAttributes = (fd: number, bits: number): number => {
  const attributes = Buffer.alloc(32)
  attributes.writeBigUInt64LE(BigInt(bits), 0)
  return rawSys('mount_setattr', fd, '', AT_EMPTY_PATH, attributes, attributes.length)
}
