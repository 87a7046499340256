/** A CRI runtime as a process of ours: start it, stop it, kill it, start it again, talk to it. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { type CriClient, connectCri } from './cri-client.ts'

export interface RuntimeProgram {
  name: string
  command: string[]
  socket: string
  /** Gets stdout and stderr of every start. */
  logPath: string
  env?: Record<string, string>
}

/** How a process ended. */
export type Ending = { code: number } | { signal: NodeJS.Signals }

export class Runtime {
  readonly program: RuntimeProgram
  #child: ChildProcess | undefined
  #cri: CriClient | undefined

  constructor(program: RuntimeProgram) {
    this.program = program
  }

  /** The client of the running process. */
  get cri(): CriClient {
    if (!this.#cri) throw new Error(`${this.program.name} is not running`)
    return this.#cri
  }

  get pid(): number {
    if (!this.#child?.pid) throw new Error(`${this.program.name} is not running`)
    return this.#child.pid
  }

  get isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** Starts the process and waits until it answers Version. A session of its own keeps Ctrl-C away from it. */
  async start(): Promise<void> {
    this.#child = await launch(this.program)
    this.#cri = connectCri(this.program.socket)
    const deadline = Date.now() + 20_000
    while (this.isRunning && Date.now() < deadline) {
      const answer = await this.cri.runtime.version({}, { timeoutMs: 1000 }).catch(() => undefined)
      if (answer) return
      await sleep(20)
    }
    const fate = this.isRunning ? 'does not answer' : 'ended'
    await this.kill()
    throw new Error(`${this.program.name} ${fate} at its start:\n${await this.logTail()}`)
  }

  /** SIGTERM, then waits for the end. */
  stop(): Promise<Ending> {
    return this.#end('SIGTERM')
  }

  /** SIGKILL, then waits for the end. */
  kill(): Promise<Ending> {
    return this.#end('SIGKILL')
  }

  async #end(signal: NodeJS.Signals): Promise<Ending> {
    const child = this.#child
    if (!child) throw new Error(`${this.program.name} is not running`)
    this.#cri?.close()
    this.#cri = undefined
    if (this.isRunning) {
      child.kill(signal)
      await once(child, 'exit')
    }
    return endingOf(child)
  }

  async logTail(bytes = 6000): Promise<string> {
    return (await readFile(this.program.logPath, 'utf8').catch(() => '')).slice(-bytes)
  }
}

/** Runs a program that is expected to end by itself, such as a second daemon on the same directories. */
export async function runToEnd(program: RuntimeProgram, timeoutMs = 20_000): Promise<Ending> {
  const child = await launch(program)
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
  await once(child, 'exit')
  clearTimeout(timer)
  return endingOf(child)
}

async function launch({ command, env, logPath }: RuntimeProgram): Promise<ChildProcess> {
  const [file = '', ...args] = command
  const log = await open(logPath, 'a')
  try {
    const child = spawn(file, args, {
      stdio: ['ignore', log.fd, log.fd],
      cwd: '/',
      detached: true,
      env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...env },
    })
    await once(child, 'spawn')
    return child
  } finally {
    await log.close()
  }
}

function endingOf(child: ChildProcess): Ending {
  if (child.exitCode !== null) return { code: child.exitCode }
  return { signal: child.signalCode ?? 'SIGKILL' }
}
