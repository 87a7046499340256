/** Runs a helper program to its end: no shell, no inherited environment, bounded output, and the whole process group dies at the deadline. */
import { type ChildProcess, spawn } from 'node:child_process'
import { isAbsolute } from 'node:path'
import type { Readable } from 'node:stream'
import { type ErrorKind, RuntimeError } from '#proto/errors.ts'
import { signalNumber } from './signals.ts'

export interface CommandOptions {
  input?: string | Uint8Array
  /** The whole environment; only a default PATH when not given. */
  env?: Record<string, string>
  /** "/" when not given. */
  cwd?: string
  timeoutMs?: number
  signal?: AbortSignal
  /** Bytes kept of stdout and of stderr each; the rest is read and dropped. 1 MiB when not given. */
  maxOutput?: number
  /** Holds the pid while the child is libuv's to wait for, so that `reapOrphans` leaves it alone. */
  owned?: Set<number>
}

export type CommandExit = { how: 'exited'; code: number } | { how: 'signaled'; signal: number }

export interface CommandResult {
  exit: CommandExit
  stdout: Buffer
  stderr: Buffer
}

const DEFAULT_ENV = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' }
const DEFAULT_MAX_OUTPUT = 1024 * 1024
// A daemon left behind by the program may hold its output open for ever; what the program itself wrote is there by then.
const DRAIN_MS = 500

/** Keeps the first bytes of a stream and reads on to its end. */
const collect = (stream: Readable, maxBytes: number): (() => Buffer) => {
  const chunks: Buffer[] = []
  let total = 0
  stream.on('data', (chunk: Buffer) => {
    const kept = chunk.subarray(0, maxBytes - total)
    total += kept.length
    if (kept.length > 0) chunks.push(kept)
  })
  stream.on('error', () => {})
  return () => Buffer.concat(chunks)
}

/** The child leads its own session, so its pid names the group. */
const killGroup = (pid: number): void => {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // ESRCH: all of it is gone.
  }
}

const exitOf = (code: number | null, signal: NodeJS.Signals | null): CommandExit =>
  signal === null ? { how: 'exited', code: code ?? 255 } : { how: 'signaled', signal: signalNumber(signal) ?? 0 }

const start = (
  path: string,
  args: readonly string[],
  { env = DEFAULT_ENV, cwd = '/' }: CommandOptions,
): ChildProcess => {
  if (!isAbsolute(path)) throw new RuntimeError('internal', `command "${path}" is not an absolute path`)
  return spawn(path, args, { env, cwd, detached: true, shell: false, stdio: ['pipe', 'pipe', 'pipe'] })
}

/**
 * Runs a program and returns how it ended, whatever its exit code. Throws Node's error (ENOENT, EACCES) when it cannot start,
 * deadline-exceeded after `timeoutMs`, cancelled when `signal` aborts; its process group has been killed then.
 */
export const runCommand = async (
  path: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> => {
  const { input, timeoutMs, signal, maxOutput = DEFAULT_MAX_OUTPUT, owned } = options
  if (signal?.aborted)
    throw new RuntimeError('cancelled', `"${path}" was cancelled before it started`, { cause: signal.reason })
  const child = start(path, args, options)
  const { pid, stdin, stdout, stderr } = child
  if (pid !== undefined) owned?.add(pid)
  let stopped: RuntimeError | undefined
  let drained: NodeJS.Timeout | undefined
  const stop = (kind: ErrorKind, why: string, cause?: unknown) => {
    stopped ??= new RuntimeError(kind, `"${path}" ${why}`, { cause })
    if (pid !== undefined && child.exitCode === null && child.signalCode === null) killGroup(pid)
    stdout?.destroy()
    stderr?.destroy()
  }
  const aborted = () => stop('cancelled', 'was cancelled', signal?.reason)
  const timer =
    timeoutMs === undefined
      ? undefined
      : setTimeout(stop, timeoutMs, 'deadline-exceeded', `took more than ${timeoutMs} ms`)
  signal?.addEventListener('abort', aborted)
  try {
    const { promise, resolve, reject } = Promise.withResolvers<CommandExit>()
    child.on('error', reject)
    child.on('exit', () => {
      if (pid !== undefined) owned?.delete(pid)
      drained = setTimeout(() => {
        stdout?.destroy()
        stderr?.destroy()
      }, DRAIN_MS)
    })
    child.on('close', (code, sig) => resolve(exitOf(code, sig)))
    // A program that ends without reading its input is no failure.
    stdin?.on('error', () => {})
    stdin?.end(input)
    const output = stdout === null ? () => Buffer.alloc(0) : collect(stdout, maxOutput)
    const errors = stderr === null ? () => Buffer.alloc(0) : collect(stderr, maxOutput)
    const exit = await promise
    if (stopped !== undefined) throw stopped
    return { exit, stdout: output(), stderr: errors() }
  } finally {
    clearTimeout(timer)
    clearTimeout(drained)
    signal?.removeEventListener('abort', aborted)
  }
}
