/** Empties a pipe while a runtime writes to it, so that it never waits for a reader; only the beginning is kept. */
import { readSome, tryAgain } from '#linux/descriptor.ts'
import { readable } from '#linux/epoll.ts'
import type { Reactor } from './reactor.ts'

export class Drain {
  readonly #reactor: Reactor
  readonly #fd: number
  readonly #maxBytes: number
  readonly #kept: Buffer[] = []
  #length = 0
  #open = true

  /** @param fd the non-blocking reading end, which stays the caller's */
  constructor(reactor: Reactor, fd: number, maxBytes: number) {
    this.#reactor = reactor
    this.#fd = fd
    this.#maxBytes = maxBytes
    reactor.add(fd, readable, () => this.#take())
  }

  /** What has come so far, at most `maxBytes` of it. */
  read(): Buffer {
    if (this.#open) this.#take()
    return Buffer.concat(this.#kept)
  }

  /** Somebody else reads from now on, or nobody. Idempotent. */
  end(): void {
    if (this.#open) this.#reactor.remove(this.#fd)
    this.#open = false
  }

  #take(): void {
    const room = Buffer.alloc(Math.max(this.#maxBytes - this.#length, 4096))
    const count = readSome(this.#fd, room)
    if (count <= 0 && count !== tryAgain) this.end()
    if (count <= 0 || this.#length >= this.#maxBytes) return
    this.#length += count
    this.#kept.push(room.subarray(0, count))
  }
}
