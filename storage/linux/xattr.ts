/** Extended attributes. The l forms never follow a symbolic link; paths may be bytes. */
import { type PathLike, pathArgument, rawSys, type SysArgument, sysError } from './sys.ts'
import type { SyscallName } from './syscall-numbers.ts'

const XATTR_SIZE_MAX = 64 * 1024
const FIRST_TRY = 256

/** Calls until the value fits: the size may change between two calls. */
const readGrowing = (
  call: SyscallName,
  target: SysArgument,
  path: PathLike | undefined,
  before: SysArgument[],
): Buffer | undefined => {
  for (let size = FIRST_TRY; ; size = XATTR_SIZE_MAX) {
    const value = Buffer.alloc(size)
    const length = rawSys(call, target, ...before, value, size)
    if (length >= 0) return value.subarray(0, length)
    const error = sysError(length, call, path)
    if (error.code === 'ENODATA') return undefined
    if (error.code !== 'ERANGE' || size === XATTR_SIZE_MAX) throw error
  }
}

const names = (list: Buffer | undefined): string[] =>
  list === undefined || list.length === 0 ? [] : list.toString('utf8', 0, list.length - 1).split('\0')

const done = (result: number, call: SyscallName, path?: PathLike): void => {
  if (result < 0) throw sysError(result, call, path)
}

/** The value of an attribute, undefined when it is not set. */
export const lgetXattr = (path: PathLike, name: string): Buffer | undefined =>
  readGrowing('lgetxattr', pathArgument(path), path, [name])

/** Sets an attribute, at most 64 KiB. */
export const lsetXattr = (path: PathLike, name: string, value: Uint8Array): void =>
  done(rawSys('lsetxattr', pathArgument(path), name, value, value.length, 0), 'lsetxattr', path)

/** The names of all attributes. */
export const llistXattr = (path: PathLike): string[] => names(readGrowing('llistxattr', pathArgument(path), path, []))

/** Removes an attribute. Throws ENODATA when it is not set. */
export const lremoveXattr = (path: PathLike, name: string): void =>
  done(rawSys('lremovexattr', pathArgument(path), name), 'lremovexattr', path)

/** `lgetXattr` of an open file. */
export const fgetXattr = (fd: number, name: string): Buffer | undefined =>
  readGrowing('fgetxattr', fd, undefined, [name])

/** `lsetXattr` of an open file. */
export const fsetXattr = (fd: number, name: string, value: Uint8Array): void =>
  done(rawSys('fsetxattr', fd, name, value, value.length, 0), 'fsetxattr')

/** `llistXattr` of an open file. */
export const flistXattr = (fd: number): string[] => names(readGrowing('flistxattr', fd, undefined, []))

/** `lremoveXattr` of an open file. */
export const fremoveXattr = (fd: number, name: string): void => done(rawSys('fremovexattr', fd, name), 'fremovexattr')
