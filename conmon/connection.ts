/** One client on the control socket: frames in, frames out, neither ever waited for. A client that does not read is dropped. */
import { closeSync } from 'node:fs'
import { readSome, tryAgain, writeSome } from '#linux/descriptor.ts'
import { readable, writable } from '#linux/epoll.ts'
import { type Frame, FrameReader } from '#proto/conmon.ts'
import type { Reactor } from './reactor.ts'

/** What may wait for a slow client before it is dropped. */
const maxQueuedBytes = 1024 * 1024
const READ_BYTES = 16 * 1024

export interface ConnectionOwner {
  /** A throw ends the connection. */
  received(connection: Connection, frame: Frame): void
  closed(connection: Connection): void
}

export class Connection {
  readonly #reactor: Reactor
  readonly #fd: number
  readonly #owner: ConnectionOwner
  readonly #frames = new FrameReader()
  #queue: Buffer[] = []
  #queuedBytes = 0
  #interest = readable
  #closing = false
  #open = true
  #emptied: (() => void)[] = []

  constructor(reactor: Reactor, fd: number, owner: ConnectionOwner) {
    this.#reactor = reactor
    this.#fd = fd
    this.#owner = owner
    reactor.add(fd, readable, (events) => this.#ready(events))
  }

  get isOpen(): boolean {
    return this.#open
  }

  send(frame: Buffer): void {
    if (!this.#open || this.#closing) return
    this.#queue.push(frame)
    this.#queuedBytes += frame.length
    if (this.#queuedBytes > maxQueuedBytes) this.close()
    else if (this.#queue.length === 1) this.#sendQueued()
  }

  /** Closes once everything sent is on its way. */
  closeWhenSent(): void {
    this.#closing = true
    if (this.#queue.length === 0) this.close()
  }

  /** Resolves when nothing waits to be sent any more, or the connection is closed. */
  whenSent(): Promise<void> {
    if (!this.#open || this.#queue.length === 0) return Promise.resolve()
    return new Promise((resolve) => this.#emptied.push(resolve))
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#reactor.remove(this.#fd)
    closeSync(this.#fd)
    this.#settle()
    this.#owner.closed(this)
  }

  #ready(events: number): void {
    if ((events & writable) !== 0) this.#sendQueued()
    if (this.#open && (events & ~writable) !== 0) this.#receive()
  }

  #receive(): void {
    // Not kept between turns: clients say little, and rarely.
    const buffer = Buffer.allocUnsafe(READ_BYTES)
    const count = readSome(this.#fd, buffer)
    if (count === tryAgain) return
    try {
      if (count <= 0) throw new RangeError('end of the connection')
      for (const frame of this.#frames.read(buffer.subarray(0, count))) {
        if (this.#open && !this.#closing) this.#owner.received(this, frame)
      }
    } catch {
      // The client has gone, or breaks the protocol and has nothing more to say that we would understand.
      this.close()
    }
  }

  #sendQueued(): void {
    const interest = this.#sendUntilFull()
    if (interest === 'broken') this.close()
    else if (interest === 'full') this.#await(readable | writable)
    else this.#whenEmpty()
  }

  #sendUntilFull(): 'empty' | 'full' | 'broken' {
    for (;;) {
      const [first] = this.#queue
      if (first === undefined) return 'empty'
      const count = writeSome(this.#fd, first)
      if (count === tryAgain) return 'full'
      if (count < 0) return 'broken'
      this.#queuedBytes -= count
      if (count === first.length) this.#queue.shift()
      else this.#queue[0] = first.subarray(count)
    }
  }

  #await(interest: number): void {
    if (interest !== this.#interest) this.#reactor.change(this.#fd, interest)
    this.#interest = interest
  }

  #whenEmpty(): void {
    this.#await(readable)
    this.#settle()
    if (this.#closing) this.close()
  }

  #settle(): void {
    for (const resolve of this.#emptied.splice(0)) resolve()
  }
}
