/**
 * A program on a pseudo terminal of its own, started by the native half of node-pty. The other half is left out: it loses output when
 * its reader pauses, spins while a program does not read, and keeps the master open across exec (docs/decisions/0012).
 */
import { closeSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { Readable, Writable } from 'node:stream'
import { ReadStream } from 'node:tty'
import { duplicate, tryAgain, writeSome } from './descriptor.ts'
import { setCloexec } from './pipes.ts'
import { setRawInput, setWindowSize, type WindowSize } from './pty.ts'
import type { CommandExit } from './run-command.ts'

export interface TerminalProgram {
  readonly path: string
  readonly args: readonly string[]
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>
  readonly size: WindowSize
}

export interface TerminalChild {
  readonly pid: number
  /** What the program prints. Ends once nobody has the terminal open any more; may be paused for as long as one likes. */
  readonly output: Readable
  /** What it reads, byte by byte: no echo, no line editing, no signals. A write is done when the terminal has taken it. */
  readonly input: Writable
  /** How the program itself ended; there may still be output. Nobody else may wait for this child. */
  readonly exited: Promise<CommandExit>
  /** Nothing happens when the terminal has been closed. */
  resize(size: WindowSize): void
  /** Hang up: whoever has the terminal open gets SIGHUP, and nothing more is read. Idempotent. */
  close(): void
}

/** The native half of node-pty, as far as it is used here. Its size and ids are numbers; -1 is "as this process". */
interface PtyAddon {
  fork(
    file: string,
    args: readonly string[],
    env: readonly string[],
    cwd: string,
    cols: number,
    rows: number,
    uid: number,
    gid: number,
    utf8: boolean,
    helperPath: string,
    onExit: (code: number, signal: number) => void,
  ): { fd: number; pid: number }
}

const SAME_USER = -1
const LONGEST_PAUSE_MS = 50

let loaded: PtyAddon | undefined

/** Loaded for the first terminal, as most nodes rarely see one. Beside the bundle, or in the build directory of a source tree. */
const addon = (): PtyAddon => {
  if (loaded !== undefined) return loaded
  const candidates = [join(import.meta.dirname, 'pty.node'), join(import.meta.dirname, '../../dist/lib/pty.node')]
  const found = candidates.find((path) => existsSync(path))
  if (found === undefined)
    throw new Error(`the terminal addon is missing, looked for it at "${candidates.join('", "')}"`)
  const module: { exports: unknown } = { exports: {} }
  process.dlopen(module, found)
  loaded = module.exports as PtyAddon
  return loaded
}

/**
 * Starts a program as the leader of a session whose terminal is new. Its directory is "/".
 * A program that cannot be executed says so on the terminal and exits with code 1.
 */
export const startInTerminal = ({ path, args, env, size }: TerminalProgram): TerminalChild => {
  const { promise: exited, resolve } = Promise.withResolvers<CommandExit>()
  const onExit = (code: number, signal: number) =>
    resolve(signal > 0 ? { how: 'signaled', signal } : { how: 'exited', code })
  const words = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  const { fd, pid } = addon().fork(
    ...([path, args, words, '/', size.width, size.height, SAME_USER, SAME_USER, false, '', onExit] as const),
  )
  // In the same tick as the fork, so that no other child inherits it.
  setCloexec(fd, true)
  // The program may be slow to do so itself, and what is typed meanwhile would be echoed, or taken for a signal to it.
  setRawInput(fd)
  return new Child(fd, pid, exited)
}

class Child implements TerminalChild {
  readonly pid: number
  readonly output: Readable
  readonly input: Writable
  readonly exited: Promise<CommandExit>
  readonly #resizable: number
  #open = true

  constructor(fd: number, pid: number, exited: Promise<CommandExit>) {
    this.pid = pid
    this.exited = exited
    this.#resizable = duplicate(fd)
    this.input = new TerminalInput(duplicate(fd))
    this.output = new TerminalOutput(fd)
  }

  resize(size: WindowSize): void {
    if (this.#open) setWindowSize(this.#resizable, size)
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    closeSync(this.#resizable)
    this.input.destroy()
    this.output.destroy()
  }
}

/** Ends where a terminal fails with EIO, which is how its end is read. */
class TerminalOutput extends Readable {
  readonly #source: ReadStream

  constructor(fd: number) {
    super({ highWaterMark: 64 * 1024 })
    this.#source = new ReadStream(fd)
    this.#source.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) this.#source.pause()
    })
    this.#source.on('error', () => {})
    this.#source.once('close', () => this.push(null))
  }

  override _read(): void {
    this.#source.resume()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#source.destroy()
    done(error)
  }
}

/**
 * libuv cannot wait for a master to become writable without blocking everything else: so it is asked again after a pause, which
 * grows while the program does not read.
 */
class TerminalInput extends Writable {
  readonly #fd: number
  #timer: NodeJS.Timeout | undefined

  constructor(fd: number) {
    super({ highWaterMark: 64 * 1024 })
    this.#fd = fd
    this.on('error', () => {})
  }

  override _write(bytes: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#send(bytes, 1, done)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.#timer)
    closeSync(this.#fd)
    done(error)
  }

  #send(bytes: Buffer, pauseMs: number, done: (error?: Error | null) => void): void {
    const count = writeSome(this.#fd, bytes)
    const rest = count === tryAgain ? bytes : bytes.subarray(count)
    // Nobody will read it any more: dropped, like what is typed at a dead terminal.
    const isDead = count < 0 && count !== tryAgain
    if (isDead || rest.length === 0) {
      done()
      return
    }
    const nextMs = count > 0 ? 1 : Math.min(pauseMs * 2, LONGEST_PAUSE_MS)
    this.#timer = setTimeout(() => this.#send(rest, nextMs, done), pauseMs)
  }
}
