/** Loads the native addon and makes system calls through it, by name. Everything else in this folder stands on these few functions. */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { errnoName, LinuxError } from './errno.ts'
import { type SyscallName, syscallNumbers } from './syscall-numbers.ts'

export type SysArgument = number | bigint | string | Uint8Array | null
/** A path; Buffers are for names that are not UTF-8, as hostile archives have them. */
export type PathLike = string | Uint8Array

interface Addon {
  sys(nr: number, ...args: SysArgument[]): number | bigint
  sysAsync(nr: number, ...args: SysArgument[]): Promise<number | bigint>
  addr(buffer: Uint8Array): bigint
  aside(milliseconds: number, nr: number, ...args: SysArgument[]): number | bigint | undefined
  asideEvent(): number
  asideOver(): number | bigint | undefined
  clonePaused(flags: number): number
  spawn(file: string, texts: Uint8Array, environment: Uint8Array, settings: Uint8Array): number
  numbers(files: Uint8Array, count: number, names: Uint8Array, paths: Uint8Array, numbers: Uint8Array): number
}

const EINTR = -4
export const AT_FDCWD = -100

let loaded: Addon | undefined

/** Where compiled executables of Bun have their code. */
const COMPILED = '/$bunfs/'

/**
 * Beside the bundle, or in the build directory of a source tree. A compiled executable takes its `lib` next to its own directory: what it
 * has for `import.meta.dirname` is where it was compiled, and whoever may write there on a node could give it code.
 */
const addonPath = (): string => {
  const here = import.meta.dirname
  const candidates = process.argv[1]?.startsWith(COMPILED)
    ? [join(dirname(process.execPath), '../lib/sys.node')]
    : [join(here, 'sys.node'), join(here, '../../dist/lib/sys.node')]
  const found = candidates.find((path) => existsSync(path))
  if (found === undefined) throw new Error(`the native addon is missing, looked for it at "${candidates.join('", "')}"`)
  return found
}

const addon = (): Addon => {
  if (loaded !== undefined) return loaded
  const module: { exports: unknown } = { exports: {} }
  process.dlopen(module, addonPath())
  loaded = module.exports as Addon
  return loaded
}

const numberOf = (call: SyscallName | number): number => (typeof call === 'number' ? call : syscallNumbers[call])

const small = (result: number | bigint): number => {
  if (typeof result === 'bigint') throw new RangeError(`system call result ${result} is not a safe integer`)
  return result
}

/** Makes a system call on this thread, once, and returns its result, or -errno; -4 (EINTR) when a signal came first. */
export const rawSysOnce = (call: SyscallName | number, ...args: SysArgument[]): number =>
  small(addon().sys(numberOf(call), ...args))

/**
 * Makes a system call on this thread and returns its result, or -errno. Blocks the event loop as long as the call does.
 * Repeats the call when a signal interrupts it: do not use it with calls that count down a timeout.
 */
export const rawSys = (call: SyscallName | number, ...args: SysArgument[]): number => {
  for (;;) {
    const result = rawSysOnce(call, ...args)
    if (result !== EINTR) return result
  }
}

/**
 * Makes a child process in new namespaces (CLONE_NEW* flags) that waits to be killed, as unshare(2) cannot make a user
 * namespace for a process with threads. It must be killed and waited for in the same tick: see user-namespace.ts.
 */
export const clonePaused = (flags: number): number => {
  const pid = addon().clonePaused(flags)
  if (pid < 0) throw sysError(pid, 'clone')
  return pid
}

/** Executes a program, see spawn-program.ts for the settings. Returns its pid, or -errno. */
export const rawSpawn = (file: string, texts: Uint8Array, environment: Uint8Array, settings: Uint8Array): number =>
  addon().spawn(file, texts, environment, settings)

/** Reads files and finds numbers in them, see number-files.ts. Returns how many were opened to be kept, or could not be read. */
export const rawNumbers = (
  files: Uint8Array,
  count: number,
  names: Uint8Array,
  paths: Uint8Array,
  numbers: Uint8Array,
): number => addon().numbers(files, count, names, paths, numbers)

/** The error for a negative result of `rawSys`. */
export const sysError = (result: number, call: string | number, path?: PathLike, detail?: string): LinuxError =>
  new LinuxError(errnoName(result), String(call), path === undefined ? undefined : pathText(path), detail)

/** `rawSys`, but throws a LinuxError instead of returning -errno. */
export const sys = (call: SyscallName | number, ...args: SysArgument[]): number => {
  const result = rawSys(call, ...args)
  if (result < 0) throw sysError(result, call)
  return result
}

/** `sys` on behalf of a path, which the error then names. The path must be among `args` itself. */
export const sysOn = (path: PathLike, call: SyscallName | number, ...args: SysArgument[]): number => {
  const result = rawSys(call, ...args)
  if (result < 0) throw sysError(result, call, path)
  return result
}

/**
 * Makes a system call on a pool thread; never for calls that act on the calling thread (setns, unshare, chroot).
 * Buffers among the arguments are kept alive until it is over; buffers they point to are the caller's to keep.
 */
export const sysAsync = async (call: SyscallName | number, ...args: SysArgument[]): Promise<number> => {
  for (const arg of args) if (arg instanceof Uint8Array) settle(arg)
  for (;;) {
    const result = small(await addon().sysAsync(numberOf(call), ...args))
    if (result === EINTR) continue
    if (result < 0) throw sysError(result, call)
    return result
  }
}

/**
 * Makes a system call that may never return on a thread kept for such calls, and returns its result, or -errno; undefined when it takes
 * longer than `waitMs`. Then no other may be made before `asideOver` has returned that result, and buffers must not be changed.
 */
export const rawSysAside = (waitMs: number, call: SyscallName, ...args: SysArgument[]): number | undefined => {
  for (const arg of args) if (arg instanceof Uint8Array) settle(arg)
  const result = addon().aside(waitMs, numberOf(call), ...args)
  return result === undefined ? undefined : small(result)
}

/** A descriptor that becomes readable (eventfd) when a call is over that took too long for `rawSysAside`. */
export const asideEvent = (): number => addon().asideEvent()

/** The result of that call; undefined while it is not over. */
export const asideOver = (): number | undefined => {
  const result = addon().asideOver()
  return result === undefined ? undefined : small(result)
}

/** Bun keeps small arrays inside a cell and moves their bytes when `.buffer` is first asked for: ask before anyone notes the address. */
const settle = (buffer: Uint8Array): void => void buffer.buffer

/** The address of a Buffer's bytes, to be stored in a structure. The caller keeps the Buffer referenced until the call is over. */
export const addr = (buffer: Uint8Array): bigint => {
  settle(buffer)
  return addon().addr(buffer)
}

/** Keeps buffers alive whose addresses are inside a structure: call it after the system call with all of them. */
export const keep = (..._buffers: Uint8Array[]): void => {}

/** A path as an argument: a string as it is, bytes with the NUL that ends them. */
export const pathArgument = (path: PathLike): string | Uint8Array => {
  if (typeof path === 'string') return path
  if (path.includes(0)) throw new TypeError('path contains a NUL byte')
  return Buffer.concat([path, Buffer.alloc(1)])
}

/** A path for messages. */
export const pathText = (path: PathLike): string => (typeof path === 'string' ? path : Buffer.from(path).toString())
