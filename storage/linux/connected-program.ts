/** Starts a program that talks to us over a socket which it has from its beginning, as descriptor 3. */
import { type ChildProcess, spawn } from 'node:child_process'
import { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'

export interface ConnectedProgram {
  readonly socket: Duplex
  /** Resolves with how it ended and the last that it wrote to its standard error. */
  readonly ended: Promise<string>
  /** SIGTERM to its process group, and SIGKILL when that was not enough. */
  end(graceMs: number): Promise<void>
}

/** Kept of what the program writes to its standard error. */
const MAX_KEPT = 2048
const LAST_WORDS_MS = 1000

/** Its working directory is "/"; its standard input and output lead nowhere. @throws when it cannot be started */
export async function startConnected(path: string, env: Record<string, string>): Promise<ConnectedProgram> {
  const child = spawn(path, [], { env, cwd: '/', detached: true, stdio: ['ignore', 'ignore', 'pipe', 'pipe'] })
  const ended = endOf(child)
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', reject)
  })
  const socket = child.stdio[3]
  if (!(socket instanceof Duplex)) throw new Error(`the descriptor 3 of "${path}" is no socket`)
  return { socket, ended, end: (graceMs) => end(child, ended, graceMs) }
}

function endOf(child: ChildProcess): Promise<string> {
  let tail = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    tail = (tail + chunk.toString()).slice(-MAX_KEPT)
  })
  child.stderr?.on('error', () => {})
  return new Promise((resolve) => {
    // What it wrote last comes after its end, unless somebody else holds its standard error.
    const closed = new Promise((close) => child.once('close', close))
    child.once('exit', async (code, signal) => {
      await Promise.race([closed, sleep(LAST_WORDS_MS, undefined, { ref: false })])
      resolve(`${signal ?? `exit code ${code}`}${tail === '' ? '' : `: ${tail.trim()}`}`)
    })
    child.once('error', (error) => resolve(error.message))
  })
}

async function end(child: ChildProcess, ended: Promise<string>, graceMs: number): Promise<void> {
  const signal = (name: NodeJS.Signals) => {
    // Once it has been waited for, its number may be another's.
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    try {
      process.kill(-child.pid, name)
    } catch {
      // ESRCH: it is gone.
    }
  }
  signal('SIGTERM')
  await Promise.race([ended, sleep(graceMs)])
  signal('SIGKILL')
  await ended
}
