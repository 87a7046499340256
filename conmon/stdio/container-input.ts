/**
 * The container's input: what it does not read yet is kept here, and whoever sends more is to wait until it has been taken. Nothing
 * else waits: neither the log nor other clients.
 */
import { closeSync } from 'node:fs'
import { tryAgain, writeSome } from '#linux/descriptor.ts'
import { writable } from '#linux/epoll.ts'
import type { Reactor } from '../reactor.ts'

export class ContainerInput {
  readonly #reactor: Reactor
  readonly #fd: number
  #waiting: Buffer[] = []
  #ending = false
  #open = true
  #watched = false
  /** Told each time that everything has been taken. */
  onTaken: () => void = () => {}

  /** Takes over `fd`, which is non-blocking and watched by nobody else. */
  constructor(reactor: Reactor, fd: number) {
    this.#reactor = reactor
    this.#fd = fd
  }

  /** False once the container cannot read any more, or is to read no more. */
  get isOpen(): boolean {
    return this.#open && !this.#ending
  }

  /** Whether all that was written has been taken, so that more may come. */
  get isTaken(): boolean {
    return this.#waiting.length === 0
  }

  /** Keeps the bytes: the caller must not reuse them. What comes when it is not open any more is dropped. */
  write(bytes: Buffer): void {
    if (!this.isOpen || bytes.length === 0) return
    this.#waiting.push(bytes)
    if (this.#waiting.length === 1) this.#send()
  }

  /** The container reads the end once it has read what was written. Idempotent. */
  end(): void {
    this.#ending = true
    if (this.isTaken) this.close()
  }

  /** At once; what has not been taken is dropped. Idempotent. */
  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#waiting = []
    this.#watch(false)
    closeSync(this.#fd)
    this.onTaken()
  }

  #send(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      const count = writeSome(this.#fd, first)
      if (count < 0) {
        // EPIPE: nobody will ever read it.
        if (count === tryAgain) this.#watch(true)
        else this.close()
        return
      }
      if (count === first.length) this.#waiting.shift()
      else this.#waiting[0] = first.subarray(count)
    }
    this.#watch(false)
    if (this.#ending) this.close()
    else this.onTaken()
  }

  /** Only while something waits: an event that is always there would never let the monitor sleep. */
  #watch(on: boolean): void {
    if (on === this.#watched) return
    this.#watched = on
    if (on) this.#reactor.add(this.#fd, writable, () => this.#send())
    else this.#reactor.remove(this.#fd)
  }
}
