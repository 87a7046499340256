/** Runs a helper program to its end: no shell, no inherited environment, bounded output, and the whole process group dies at the deadline. */
import { type ChildProcess, spawn } from 'node:child_process'
import { isAbsolute } from 'node:path'
import type { Readable } from 'node:stream'
import { type ErrorKind, RuntimeError } from '#proto/errors.ts'
import { signalNumber } from './signals.ts'

export interface CommandOptions {
  input?: string | Uint8Array
  /** An open descriptor as standard input instead, for programs that open /dev/stdin: Node's own pipes are sockets. */
  stdin?: number
  /** The whole environment; only a default PATH when not given. */
  env?: Record<string, string>
  /** "/" when not given. */
  cwd?: string
  timeoutMs?: number
  /** How long the program may go without writing to stdout. */
  silenceMs?: number
  /** Gets stdout as it comes, besides its being kept. An error thrown here ends the program. */
  onStdout?: (chunk: Buffer) => void
  signal?: AbortSignal
  /** Bytes kept of stdout and of stderr each; the rest is read and dropped. 1 MiB when not given. */
  maxOutput?: number
}

export type CommandExit = { how: 'exited'; code: number } | { how: 'signaled'; signal: number }

export interface CommandResult {
  exit: CommandExit
  stdout: Buffer
  stderr: Buffer
}

const DEFAULT_ENV = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' }
const DEFAULT_MAX_OUTPUT = 1024 * 1024
const DRAIN_ROUND_MS = 100
const DRAIN_ROUNDS = 50
const STUCK_MS = 2000
const MAX_TIMER_MS = 2 ** 31 - 1

interface Collected {
  /** Bytes that came, kept or not. */
  seen: number
  bytes(): Buffer
}

/** Keeps the first bytes of a stream and reads on to its end. */
const collect = (stream: Readable | null | undefined, maxBytes: number): Collected => {
  const chunks: Buffer[] = []
  const collected: Collected = { seen: 0, bytes: () => Buffer.concat(chunks) }
  // There are no streams when descriptors have run out; an error event follows.
  stream?.on('data', (chunk: Buffer) => {
    if (collected.seen < maxBytes) chunks.push(chunk.subarray(0, maxBytes - collected.seen))
    collected.seen += chunk.length
  })
  stream?.on('error', () => {})
  return collected
}

/** The child leads its own session, so its pid names the group. Not to be called once the child has been reaped. */
const killGroup = (pid: number): void => {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // ESRCH: all of it is gone.
  }
}

const exitOf = (code: number | null, signal: NodeJS.Signals | null): CommandExit =>
  signal === null ? { how: 'exited', code: code ?? 255 } : { how: 'signaled', signal: signalNumber(signal) ?? 0 }

class Command {
  readonly #path: string
  readonly #child: ChildProcess
  readonly #stdout: Collected
  readonly #stderr: Collected
  readonly #done = Promise.withResolvers<CommandExit>()
  readonly #timers: NodeJS.Timeout[] = []
  #stopped: RuntimeError | undefined
  #reaped = false

  constructor(path: string, args: readonly string[], { env = DEFAULT_ENV, cwd = '/', ...options }: CommandOptions) {
    const { maxOutput = DEFAULT_MAX_OUTPUT, input, stdin = 'pipe' } = options
    this.#path = path
    this.#child = spawn(path, args, { env, cwd, detached: true, shell: false, stdio: [stdin, 'pipe', 'pipe'] })
    this.#stdout = collect(this.#child.stdout, maxOutput)
    this.#stderr = collect(this.#child.stderr, maxOutput)
    this.#child.on('error', this.#done.reject)
    this.#child.on('exit', () => {
      this.#reaped = true
      this.#drain(0, 0)
    })
    this.#child.on('close', (code, signal) => this.#done.resolve(exitOf(code, signal)))
    // A program that ends without reading its input is no failure.
    this.#child.stdin?.on('error', () => {})
    this.#child.stdin?.end(input)
  }

  /** Hands on what comes, and ends silence. */
  watch({ onStdout, silenceMs }: CommandOptions): void {
    const stop = () => this.stop('deadline-exceeded', `said nothing for ${silenceMs} ms`)
    const silence = silenceMs === undefined ? undefined : setTimeout(stop, Math.min(silenceMs, MAX_TIMER_MS))
    if (silence) this.#timers.push(silence)
    this.#child.stdout?.on('data', (chunk: Buffer) => {
      silence?.refresh()
      try {
        onStdout?.(chunk)
      } catch (error) {
        this.stop('internal', 'wrote what cannot be read', error)
      }
    })
  }

  after(ms: number, action: () => void): void {
    this.#timers.push(setTimeout(action, ms))
  }

  /** A daemon left behind by the program may hold its output open for ever: what the program itself wrote has been read after two quiet rounds. */
  #drain(round: number, quiet: number): void {
    const before = this.#stdout.seen + this.#stderr.seen
    this.after(DRAIN_ROUND_MS, () => {
      const more = this.#stdout.seen + this.#stderr.seen > before
      if (round < DRAIN_ROUNDS && (more || quiet === 0)) this.#drain(round + 1, more ? 0 : quiet + 1)
      else this.#destroyOutput()
    })
  }

  #destroyOutput(): void {
    this.#child.stdout?.destroy()
    this.#child.stderr?.destroy()
  }

  stop(kind: ErrorKind, why: string, cause?: unknown): void {
    if (this.#stopped !== undefined) return
    const error = new RuntimeError(kind, `"${this.#path}" ${why}`, { cause })
    this.#stopped = error
    if (this.#child.pid !== undefined && !this.#reaped) killGroup(this.#child.pid)
    this.#destroyOutput()
    // Even SIGKILL waits for a process that is stuck in the kernel; the caller does not.
    this.after(STUCK_MS, () => this.#done.reject(error))
  }

  async result(): Promise<CommandResult> {
    try {
      const exit = await this.#done.promise
      if (this.#stopped !== undefined) throw this.#stopped
      return { exit, stdout: this.#stdout.bytes(), stderr: this.#stderr.bytes() }
    } finally {
      for (const timer of this.#timers) clearTimeout(timer)
    }
  }
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
  const { timeoutMs, signal } = options
  if (!isAbsolute(path)) throw new RuntimeError('internal', `command "${path}" is not an absolute path`)
  if (signal?.aborted)
    throw new RuntimeError('cancelled', `"${path}" was cancelled before it started`, { cause: signal.reason })
  const command = new Command(path, args, options)
  command.watch(options)
  const aborted = () => command.stop('cancelled', 'was cancelled', signal?.reason)
  if (timeoutMs !== undefined) {
    // A longer timer would fire at once.
    command.after(Math.min(timeoutMs, MAX_TIMER_MS), () =>
      command.stop('deadline-exceeded', `took more than ${timeoutMs} ms`),
    )
  }
  signal?.addEventListener('abort', aborted)
  try {
    return await command.result()
  } finally {
    signal?.removeEventListener('abort', aborted)
  }
}
