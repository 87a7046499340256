/**
 * The disk of a log, which may not answer for long or ever: a frozen file system, a server that is gone, a journal behind a dying device.
 * One job after another, on the thread for such calls. As a rule a job is done when `run` returns; when not, the monitor goes on without it.
 */
import { readSome } from '#linux/descriptor.ts'
import { readable } from '#linux/epoll.ts'
import { asideEvent, asideOver, rawSysAside, type SysArgument } from '#linux/sys.ts'
import type { SyscallName } from '#linux/syscall-numbers.ts'
import type { Reactor } from '../reactor.ts'

/** A system call and its arguments. Buffers must stay as they are until it is over. */
export type DiskCall = readonly [SyscallName, ...SysArgument[]]
/** A job: yields calls, gets what they return (-errno when they fail). */
export type Steps<T = void> = Generator<DiskCall, T, number>

/** Busy disks answer in this time; longer nobody else waits. */
const waitMs = 100

export class Disk {
  readonly #reactor: Pick<Reactor, 'add' | 'remove'>
  readonly #onBug: (error: unknown) => void
  readonly #waiting: Steps[] = []
  #busy = false
  #idle: (() => void)[] = []

  /** @param onBug is told what a job threw */
  constructor(reactor: Pick<Reactor, 'add' | 'remove'>, onBug: (error: unknown) => void) {
    this.#reactor = reactor
    this.#onBug = onBug
  }

  /** Some job has not been done yet. */
  get isBusy(): boolean {
    return this.#busy
  }

  /** Does the job now, or when those before it are done. */
  run(job: Steps): void {
    if (this.#busy) {
      this.#waiting.push(job)
      return
    }
    this.#busy = true
    this.#goOn(job, undefined)
  }

  /** Resolves when every job is done. */
  whenIdle(): Promise<void> {
    return this.#busy ? new Promise((resolve) => this.#idle.push(resolve)) : Promise.resolve()
  }

  #goOn(first: Steps, answer: number | undefined): void {
    if (!this.#isDone(first, answer)) return
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      if (!this.#isDone(next, undefined)) return
    }
    this.#busy = false
    if (this.#idle.length === 0) return
    for (const resolve of this.#idle.splice(0)) resolve()
  }

  #isDone(job: Steps, answer: number | undefined): boolean {
    try {
      let step = answer === undefined ? job.next() : job.next(answer)
      while (step.done !== true) {
        const result = rawSysAside(waitMs, ...step.value)
        if (result === undefined) {
          this.#await(job)
          return false
        }
        step = job.next(result)
      }
    } catch (error) {
      this.#onBug(error)
    }
    return true
  }

  #await(job: Steps): void {
    const event = asideEvent()
    this.#reactor.add(event, readable, () => {
      readSome(event, Buffer.alloc(8))
      const result = asideOver()
      if (result === undefined) return
      this.#reactor.remove(event)
      this.#goOn(job, result)
    })
  }
}
