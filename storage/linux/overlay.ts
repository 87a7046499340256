/**
 * Overlay mounts with any number of layers the kernel takes (500). Classic mount(2) has room for one page of options, so layers are
 * given one by one through a filesystem context; older kernels, which lack "lowerdir+", get the numbers of file descriptors on one page.
 */
import { closeSync, constants, openSync, readSync } from 'node:fs'
import { isErrno, LinuxError } from './errno.ts'
import { AT_FDCWD, rawSys, sys, sysError, sysOn } from './sys.ts'

/** OVL_MAX_STACK of the kernel. */
export const MAX_LOWER_LAYERS = 500

export interface OverlayMount {
  /** Read-only layers, the topmost first. */
  lower: readonly string[]
  /** Writable layer and its work directory, on one filesystem; both or neither. Without them the mount is read-only. */
  upper?: string
  work?: string
  target: string
  /** Further options: of overlay ("index=off", "volatile"), and the mount flags ro, nosuid, nodev, noexec. */
  options?: readonly string[]
}

const FSOPEN_CLOEXEC = 1
const FSMOUNT_CLOEXEC = 1
const MOVE_MOUNT_F_EMPTY_PATH = 4
const FSCONFIG_SET_FLAG = 0
const FSCONFIG_SET_STRING = 1
const FSCONFIG_CMD_CREATE = 6
const O_PATH = 0x200000
const DESCRIPTORS = '/proc/self/fd'
const PAGE = 4096
// mount(2) flags and MOUNT_ATTR_* have the same values for these four.
const MOUNT_FLAGS: Record<string, number> = { ro: 1, nosuid: 2, nodev: 4, noexec: 8 }
// fsconfig copies at most 256 bytes of a string; classic options give these characters a meaning.
const isPlain = (path: string): boolean => Buffer.byteLength(path) <= 255 && !/[\\,:"]/.test(path)

/** Directories opened for the time of a mount call. */
class Opened implements Disposable {
  readonly #fds: number[] = []

  /** A path that names an open directory whatever its real path looks like. */
  pathOf(directory: string): string {
    return `${DESCRIPTORS}/${this.numberOf(directory)}`
  }

  /** The same, relative to the directory of descriptors. */
  numberOf(directory: string): number {
    return this.adopt(openSync(directory, O_PATH | constants.O_DIRECTORY))
  }

  adopt(fd: number): number {
    this.#fds.push(fd)
    return fd
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.splice(0)) closeSync(fd)
  }
}

const checked = ({ lower, upper, work, target }: OverlayMount): void => {
  if (lower.length === 0) throw new TypeError('an overlay needs at least one lower layer')
  if (lower.length > MAX_LOWER_LAYERS)
    throw new LinuxError('E2BIG', 'mount', target, `${lower.length} layers, the kernel takes ${MAX_LOWER_LAYERS}`)
  if ((upper === undefined) !== (work === undefined))
    throw new TypeError('an overlay has "upper" and "work", or neither')
}

const mountFlags = (options: readonly string[]): number =>
  options.reduce((bits, option) => bits | (MOUNT_FLAGS[option] ?? 0), 0)

const filesystemOptions = (options: readonly string[]): string[] => options.filter((option) => !(option in MOUNT_FLAGS))

/** What the kernel has to say about a filesystem context beyond the errno. */
const contextLog = (context: number): string | undefined => {
  const messages: string[] = []
  const message = Buffer.alloc(1024)
  try {
    // ENODATA ends the list.
    while (messages.length < 16) messages.push(message.toString('utf8', 2, readSync(context, message)).trim())
  } catch {
    // Nothing more.
  }
  return messages.length === 0 ? undefined : messages.join('; ')
}

const configure = (context: number, key: string, value?: string, subject?: string): void => {
  const result = rawSys(
    'fsconfig',
    context,
    value === undefined ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING,
    key,
    value ?? null,
    0,
  )
  if (result < 0) throw sysError(result, 'fsconfig', subject, contextLog(context) ?? `option "${key}"`)
}

/** The categories of an SELinux label are separated by commas, as options are. */
const quoteCommas = (option: string): string => option.replace(/^(\w+)=(.*,.*)$/, '$1="$2"')

const configureOption = (context: number, option: string): void => {
  const equals = option.indexOf('=')
  if (equals < 0) configure(context, option)
  else configure(context, option.slice(0, equals), option.slice(equals + 1))
}

/** Mounts through a filesystem context. Exported for its test. */
export const mountOverlayByContext = (request: OverlayMount): void => {
  checked(request)
  const { lower, upper, work, target, options = [] } = request
  using opened = new Opened()
  const context = opened.adopt(sys('fsopen', 'overlay', FSOPEN_CLOEXEC))
  const directory = (key: string, path: string) =>
    configure(context, key, isPlain(path) ? path : opened.pathOf(path), path)
  for (const layer of lower) directory('lowerdir+', layer)
  if (upper !== undefined) directory('upperdir', upper)
  if (work !== undefined) directory('workdir', work)
  for (const option of filesystemOptions(options)) configureOption(context, option)
  configure(context, 'source', 'overlay')
  const created = rawSys('fsconfig', context, FSCONFIG_CMD_CREATE, null, null, 0)
  if (created < 0) throw sysError(created, 'fsconfig', target, contextLog(context))
  const mounted = opened.adopt(sys('fsmount', context, FSMOUNT_CLOEXEC, mountFlags(options)))
  sysOn(target, 'move_mount', mounted, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)
}

/**
 * Mounts by one page of options. Where the paths do not fit, the directories are opened and named by the numbers of their
 * descriptors, which are short because the mount is made from within the directory of descriptors. Exported for its test.
 */
export const mountOverlayByOptions = (request: OverlayMount): void => {
  checked(request)
  const { lower, upper, work, target, options = [] } = request
  using opened = new Opened()
  const data = (nameOf: (directory: string) => string | number): string => {
    const parts = [`lowerdir=${lower.map(nameOf).join(':')}`]
    if (upper !== undefined) parts.push(`upperdir=${nameOf(upper)}`)
    if (work !== undefined) parts.push(`workdir=${nameOf(work)}`)
    return [...parts, ...filesystemOptions(options).map(quoteCommas)].join(',')
  }
  const mountWith = (text: string): void => {
    if (Buffer.byteLength(text) >= PAGE)
      throw new LinuxError('E2BIG', 'mount', target, `options of ${lower.length} layers do not fit`)
    sysOn(target, 'mount', 'overlay', target, 'overlay', mountFlags(options), text)
  }
  const all = [...lower, ...(upper === undefined ? [] : [upper]), ...(work === undefined ? [] : [work])]
  const plain = all.every(isPlain) ? data((directory) => directory) : undefined
  if (plain !== undefined && Buffer.byteLength(plain) < PAGE) mountWith(plain)
  else {
    const numbered = data((directory) => opened.numberOf(directory))
    inDirectory(DESCRIPTORS, opened, () => mountWith(numbered))
  }
}

/** Everything else names its files absolutely, and nothing else runs before the working directory is back. */
const inDirectory = (directory: string, opened: Opened, use: () => void): void => {
  const before = opened.pathOf('.')
  sysOn(directory, 'chdir', directory)
  try {
    use()
  } finally {
    sysOn(before, 'chdir', before)
  }
}

let byContext: boolean | undefined

/** Whether this kernel takes layers one by one: asked once, of a context that is then thrown away. */
const contextWorks = (): boolean => {
  if (byContext !== undefined) return byContext
  using opened = new Opened()
  try {
    configure(opened.adopt(sys('fsopen', 'overlay', FSOPEN_CLOEXEC)), 'lowerdir+', '/')
    byContext = true
  } catch (error) {
    if (!isErrno(error, 'ENOSYS', 'EINVAL', 'EPERM')) throw error
    byContext = false
  }
  return byContext
}

/** Mounts an overlay at `target`. Throws LinuxError naming the target, with the kernel's explanation when it gives one. */
export const mountOverlay = (request: OverlayMount): void => {
  if (contextWorks()) mountOverlayByContext(request)
  else mountOverlayByOptions(request)
}
