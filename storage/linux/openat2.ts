/** Opens paths that somebody else chose without leaving the directory they belong to. */
import { closeSync, constants, openSync } from 'node:fs'
import { type PathLike, pathArgument, rawSys, sysError } from './sys.ts'

const RESOLVE_NO_MAGICLINKS = 0x02
const RESOLVE_NO_SYMLINKS = 0x04
const RESOLVE_BENEATH = 0x08
const RESOLVE_IN_ROOT = 0x10
const O_PATH = 0x200000
const O_CLOEXEC = 0x80000
const O_TMPFILE = 0x400000
// The kernel gives up with EAGAIN when something is renamed while it resolves "..".
const ATTEMPTS = 128

const withDirectory = <T>(directory: number | string, use: (fd: number) => T): T => {
  if (typeof directory === 'number') return use(directory)
  const fd = openSync(directory, O_PATH | constants.O_DIRECTORY)
  try {
    return use(fd)
  } finally {
    closeSync(fd)
  }
}

const howTo = (flags: number, mode: number, resolve: number): Buffer => {
  const creates = (flags & (constants.O_CREAT | O_TMPFILE)) !== 0
  const how = Buffer.alloc(24)
  how.writeBigUInt64LE(BigInt((flags | O_CLOEXEC) >>> 0), 0)
  how.writeBigUInt64LE(BigInt(creates ? mode & 0o7777 : 0), 8)
  how.writeBigUInt64LE(BigInt(resolve), 16)
  return how
}

const open = (directory: number, path: PathLike, flags: number, mode: number, resolve: number): number => {
  const how = howTo(flags, mode, resolve)
  const name = pathArgument(path)
  for (let attempt = 1; ; attempt++) {
    const fd = rawSys('openat2', directory, name, how, how.length)
    if (fd >= 0) return fd
    const error = sysError(fd, 'openat2', path)
    if (error.code !== 'EAGAIN' || attempt === ATTEMPTS) throw error
  }
}

/**
 * Opens a path as a process chrooted to `root` would: "..", absolute paths and links stay inside. Links of /proc that jump
 * elsewhere fail with ELOOP. Returns a close-on-exec descriptor; `mode` counts only when `flags` create, and under the umask.
 */
export const openInRoot = (root: number | string, path: PathLike, flags: number, mode = 0): number =>
  withDirectory(root, (fd) => open(fd, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS))

/** Opens a path beneath a directory; one that would leave it fails with EXDEV, and with `noSymlinks` any link with ELOOP. */
export const openBeneath = (
  directory: number | string,
  path: PathLike,
  flags: number,
  mode = 0,
  { noSymlinks = false }: { noSymlinks?: boolean } = {},
): number => {
  const resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | (noSymlinks ? RESOLVE_NO_SYMLINKS : 0)
  return withDirectory(directory, (fd) => open(fd, path, flags, mode, resolve))
}

/** The arguments of openat2 for `openBeneath` with `noSymlinks`, for those who make the call elsewhere. It may fail with EAGAIN: ask again. */
export const beneathArguments = (directory: number, path: string, flags: number, mode: number) =>
  [directory, path, howTo(flags, mode, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS), 24] as const
