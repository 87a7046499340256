/**
 * The monitor's loop: who wants to know when a descriptor is ready. Idle, it is one pool thread asleep in the kernel and no
 * timer. One system call per event under load: the thread that handles events waits for the next ones itself, as long as those who
 * handle them expect more. Meanwhile no promise goes on.
 */
import { closeSync } from 'node:fs'
import { makeEvent, signalEvent } from '#linux/descriptor.ts'
import { Epoll, readable } from '#linux/epoll.ts'
import { Nap } from '#linux/realtime.ts'

type Ready = (events: number) => void

// Long enough that a busy container never needs the pool thread, short enough for timers, signals and children of ours.
const BUSY_WAIT_MS = 1
// A launcher that waits for us connects at once. Whatever else could happen in a monitor that has done nothing yet can wait.
const FIRST_WAIT_MS = 20
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
  #moreExpected = false

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

  /** To be called by whoever handles an event that others of its kind may follow at once: they are not waited for in the pool then. */
  expectMore(): void {
    this.#moreExpected = true
  }

  /** To be called by whoever has begun what only goes on when promises do. */
  expectNoMore(): void {
    this.#moreExpected = false
  }

  /** Ends `run`, which then lets go of everything. */
  stop(): void {
    this.#stopped = true
    signalEvent(this.#wake)
  }

  async run(): Promise<void> {
    this.#moreExpected = true
    this.#staySynchronous(FIRST_WAIT_MS)
    while (!this.#stopped) {
      this.#dispatch(await this.#epoll.waitAsync())
      this.#staySynchronous(BUSY_WAIT_MS)
    }
    this.#epoll.close()
    closeSync(this.#wake)
  }

  #staySynchronous(waitMs: number): void {
    for (let round = 0; round < BUSY_ROUNDS && this.#moreExpected && !this.#stopped; round++) {
      this.#moreExpected = false
      if (round >= EAGER_ROUNDS) this.#nap.take()
      const count = this.#epoll.wait(waitMs)
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
