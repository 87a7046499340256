/** One running command as seen from its end: who is to be killed when the client goes, and how long that is waited for. */
import type { Linux } from '#linux/linux.ts'
import { killSession, type SessionProcesses } from './kill-session.ts'

/** Even SIGKILL waits for a process that is stuck in the kernel; the client's connection does not. */
const STUCK_MS = 2_000

export class CommandLife {
  readonly #linux: Linux
  readonly #processes: () => SessionProcesses
  readonly #signal: AbortSignal
  readonly #givenUp = Promise.withResolvers<undefined>()
  readonly #aborted = () => {
    this.kill()
    setTimeout(() => this.#givenUp.resolve(undefined), STUCK_MS).unref()
  }

  /** @param processes asked at the moment of the kill */
  constructor(linux: Linux, signal: AbortSignal, processes: () => SessionProcesses) {
    this.#linux = linux
    this.#processes = processes
    this.#signal = signal
    signal.addEventListener('abort', this.#aborted, { once: true })
  }

  /** To be called once there is something to kill that was not there before. */
  killIfAborted(): void {
    if (this.#signal.aborted) this.kill()
  }

  kill(): void {
    killSession(this.#linux, this.#processes())
  }

  /** The end, or undefined when the command was killed and does not end. */
  endOf<T>(end: Promise<T>): Promise<T | undefined> {
    if (this.#signal.aborted) this.#aborted()
    return Promise.race([end, this.#givenUp.promise])
  }

  [Symbol.dispose](): void {
    this.#signal.removeEventListener('abort', this.#aborted)
  }
}
