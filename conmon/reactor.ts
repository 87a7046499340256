/**
 * The monitor's loop: who wants to know when a descriptor is ready. Idle, it is one pool thread asleep in the kernel and no
 * timer. One system call per event under load: the thread that handles events waits for the next ones itself.
 */
import { closeSync } from 'node:fs'
import { makeEvent, signalEvent } from '#linux/descriptor.ts'
import { Epoll, readable } from '#linux/epoll.ts'
import { Nap } from '#linux/realtime.ts'

type Ready = (events: number) => void

// Long enough that a busy container never needs the pool thread, short enough for timers, signals and children of ours.
const BUSY_WAIT_MS = 1
const BUSY_ROUNDS = 32
// A container that writes without a pause is read in large pieces: as each of them costs the same, however small it is.
const EAGER_ROUNDS = 4
const NAP_US = 300

export class Reactor {
  readonly #epoll = new Epoll()
  readonly #wake = makeEvent()
  readonly #sources = new Map<number, Ready>()
  readonly #onBug: (error: unknown) => void
  readonly #nap = new Nap(NAP_US)
  #stopped = false

  /** @param onBug is told what a source threw; the source is not asked again */
  constructor(onBug: (error: unknown) => void) {
    this.#onBug = onBug
    this.#epoll.add(this.#wake, readable)
  }

  add(fd: number, interest: number, ready: Ready): void {
    this.#epoll.add(fd, interest)
    this.#sources.set(fd, ready)
  }

  change(fd: number, interest: number): void {
    if (this.#sources.has(fd)) this.#epoll.change(fd, interest)
  }

  /** To be called before the descriptor is closed. Idempotent. */
  remove(fd: number): void {
    if (this.#sources.delete(fd)) this.#epoll.remove(fd)
  }

  /** Ends `run`, which then lets go of everything. */
  stop(): void {
    this.#stopped = true
    signalEvent(this.#wake)
  }

  async run(): Promise<void> {
    while (!this.#stopped) {
      this.#dispatch(await this.#epoll.waitAsync())
      this.#staySynchronous()
    }
    this.#epoll.close()
    closeSync(this.#wake)
  }

  #staySynchronous(): void {
    for (let round = 0; round < BUSY_ROUNDS && !this.#stopped; round++) {
      if (round >= EAGER_ROUNDS) this.#nap.take()
      const count = this.#epoll.wait(BUSY_WAIT_MS)
      if (count === 0) return
      this.#dispatch(count)
    }
  }

  #dispatch(count: number): void {
    for (let index = 0; index < count; index++) {
      const fd = this.#epoll.fdAt(index)
      try {
        this.#sources.get(fd)?.(this.#epoll.eventsAt(index))
      } catch (error) {
        this.remove(fd)
        this.#onBug(error)
      }
    }
  }
}
