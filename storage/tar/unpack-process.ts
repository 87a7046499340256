/**
 * One process that unpacks layers, seen from the daemon. It is started with next to nothing: three directories as mounts of its own, no network,
 * alone among processes, with the capabilities that files take; it locks itself in before it reads the first request (confine-process.ts).
 */
import { closeSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { detachedMount } from '#linux/detached-mount.ts'
import { isErrno } from '#linux/errno.ts'
import { openPidfd, sendPidfdSignal } from '#linux/pidfd.ts'
import { waitForChild } from '#linux/reaper.ts'
import { spawnProgram } from '#linux/spawn-program.ts'
import { ReadablePipe, WritablePipe } from '#linux/stream-pipes.ts'
import { UNPACKING_CAPABILITIES } from './confine-process.ts'
import { Lines } from './lines.ts'
import { FromUnpacker, MAX_REPLY_BYTES, type ToUnpacker } from './unpack-messages.ts'

/** Host paths of the directories that it gets. */
export interface UnpackPlaces {
  readonly temp: string
  readonly whole: string
  readonly partial: string
}

/** How to run it. */
export interface UnpackProgram {
  readonly path: string
  readonly args: readonly string[]
}

const SIGKILL = 9
const REAP_MS = 10
const MAX_LAST_WORDS = 2000

/** Bun is in the monitor's executable, starts in a tenth of the time and needs half the memory; Node does as well. */
const ENVIRONMENT = {
  BUN_BE_BUN: '1',
  BUN_GC_TIMER_DISABLE: '1',
  // Compiling for the last few per cent of a loop costs more than a layer takes: a fifth of the processor time of one with 12,000 files.
  BUN_JSC_useFTLJIT: '0',
  MALLOC_ARENA_MAX: '1',
  UV_THREADPOOL_SIZE: '2',
}

/** What the built programs use, or the sources where nothing has been built. */
export const unpackProgram = (here = import.meta.dirname): UnpackProgram => {
  const bundled = join(here, 'unpack-worker.cjs')
  const entry = existsSync(bundled) ? bundled : join(here, 'unpack-worker.ts')
  const bun = [join(here, '../bin/conmon'), join(here, '../../dist/bin/conmon')].find((path) => existsSync(path))
  return bun === undefined ? underNode(entry) : { path: bun, args: ['--smol', '--no-env-file', entry] }
}

/** Where there is no compiled monitor. */
export const underNode = (entry = join(import.meta.dirname, 'unpack-worker.ts')): UnpackProgram => ({
  path: process.execPath,
  args: ['--max-semi-space-size=2', '--max-old-space-size=512', '--disable-warning=ExperimentalWarning', entry],
})

export class UnpackProcess {
  readonly #requests = new WritablePipe()
  readonly #replies = new ReadablePipe()
  readonly #words = new ReadablePipe()
  /** Until it is gone. */
  #pidfd: number | undefined
  readonly #pid: number
  #lastWords = ''
  /** Resolves when it has gone, with what it said of that. */
  readonly ended: Promise<string>

  /** Throws LinuxError when it cannot be started as it must be. */
  constructor(program: UnpackProgram, places: UnpackPlaces, onReply: (reply: FromUnpacker) => void) {
    const mounts: number[] = []
    try {
      mounts.push(detachedMount(places.temp))
      for (const path of [places.whole, places.partial]) mounts.push(detachedMount(path, { readonly: true }))
      this.#pid = spawnProgram({
        ...program,
        env: ENVIRONMENT,
        stdio: [this.#requests.readEnd, this.#replies.writeEnd, this.#words.writeEnd, ...mounts],
        neutralOomScore: true,
        namespaces: ['pid', 'net', 'ipc'],
        capabilities: UNPACKING_CAPABILITIES,
      })
      // In this tick nobody has reaped it, not even if it has ended.
      this.#pidfd = openPidfd(this.#pid)
    } catch (error) {
      for (const pipe of [this.#requests, this.#replies, this.#words]) pipe.close()
      throw error
    } finally {
      for (const mount of mounts) closeSync(mount)
    }
    this.#requests.closeReadEnd()
    this.#replies.closeWriteEnd()
    this.#words.closeWriteEnd()
    this.#words.stream.on('data', (bytes: Buffer) => {
      if (this.#lastWords.length < MAX_LAST_WORDS) this.#lastWords += bytes.toString()
    })
    this.#listen(onReply)
    this.ended = this.#end()
  }

  send(message: ToUnpacker): void {
    this.#requests.stream.write(`${JSON.stringify(message)}\n`)
  }

  kill(): void {
    if (this.#pidfd !== undefined) sendPidfdSignal(this.#pidfd, SIGKILL)
  }

  /** Whether this process is to stay for its sake. */
  hold(isHeld: boolean): void {
    for (const { stream } of [this.#requests, this.#replies, this.#words]) isHeld ? stream.ref() : stream.unref()
  }

  /** What makes no sense ends it. */
  #listen(onReply: (reply: FromUnpacker) => void): void {
    const lines = new Lines(MAX_REPLY_BYTES)
    this.#replies.stream.on('data', (bytes: Buffer) => {
      try {
        for (const line of lines.take(bytes)) onReply(FromUnpacker.parse(JSON.parse(line)))
      } catch (error) {
        this.#lastWords = `it says what makes no sense: ${error instanceof Error ? error.message.slice(0, 200) : ''}`
        this.kill()
      }
    })
  }

  async #end(): Promise<string> {
    await new Promise((resolve) => this.#replies.stream.once('close', resolve))
    // It may have closed its end and live on.
    this.kill()
    while (!isReaped(this.#pid)) await sleep(REAP_MS)
    for (const pipe of [this.#requests, this.#replies, this.#words]) pipe.close()
    if (this.#pidfd !== undefined) closeSync(this.#pidfd)
    this.#pidfd = undefined
    return this.#lastWords
  }
}

/** Also when the daemon's reaper of orphans was faster. */
const isReaped = (pid: number): boolean => {
  try {
    return waitForChild(pid) !== undefined
  } catch (error) {
    if (isErrno(error, 'ECHILD')) return true
    throw error
  }
}
