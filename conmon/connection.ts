/**
 * One client on the control socket: frames in, frames out, neither ever waited for. A client that does not read is dropped; one that
 * sends faster than it may is not read from.
 */
import { closeSync } from 'node:fs'
import { readSome, tryAgain, writeSome } from '#linux/descriptor.ts'
import { readable, writable } from '#linux/epoll.ts'
import { endWriting } from '#linux/unix-socket.ts'
import { type Frame, FrameReader } from '#proto/conmon.ts'
import type { Reactor } from './reactor.ts'

/** What may wait for a slow client before it is dropped. */
export const maxQueuedBytes = 1024 * 1024
/** What a frame in the queue costs besides its bytes, roughly. */
const FRAME_COST = 128
const READ_BYTES = 16 * 1024
/** How long a client that is being dropped may take to read why. */
const farewellMs = 10_000

export interface ConnectionOwner {
  /** A throw ends the connection. */
  received(connection: Connection, frame: Frame): void
  /** It is told so and closed soon. Whoever serves it need not any more. */
  dropped(connection: Connection): void
  closed(connection: Connection): void
}

export class Connection {
  readonly #reactor: Reactor
  readonly #fd: number
  readonly #owner: ConnectionOwner
  readonly #frames = new FrameReader()
  #queue: Buffer[] = []
  #queuedBytes = 0
  /** The first frame of the queue is on its way already. */
  #begun = false
  #interest = readable
  #paused = false
  #farewell: Buffer | undefined
  #late: NodeJS.Timeout | undefined
  #closing = false
  #open = true
  #waiting: (() => void)[] = []

  constructor(reactor: Reactor, fd: number, owner: ConnectionOwner) {
    this.#reactor = reactor
    this.#fd = fd
    this.#owner = owner
    reactor.add(fd, readable, (events) => this.#ready(events))
  }

  get isOpen(): boolean {
    return this.#open
  }

  /** Sends a frame, or keeps it until the client reads: it must not be changed afterwards. */
  send(frame: Buffer): void {
    const rest = this.#sendNow(frame)
    if (rest !== undefined) this.#enqueue(rest)
  }

  /** The same for a frame that the caller will reuse. */
  sendShared(frame: Buffer): void {
    const rest = this.#sendNow(frame)
    if (rest !== undefined) this.#enqueue(Buffer.from(rest))
  }

  /** What a client that does not read is told as its last frame, in place of what waits for it. */
  sayWhenDropped(farewell: Buffer): void {
    this.#farewell = farewell
  }

  /** Stops reading: the client has to wait, and notices nothing but that. */
  pause(): void {
    this.#paused = true
    this.#updateInterest()
  }

  resume(): void {
    this.#paused = false
    this.#updateInterest()
  }

  /**
   * Ends once everything sent has been read. What the client sends meanwhile is read and thrown away: closing with something
   * unread would make its next write fail, and it might never look at what was sent to it.
   */
  finish(): void {
    if (!this.#open || this.#closing) return
    this.#closing = true
    this.#paused = false
    this.#late = setTimeout(() => this.close(), farewellMs)
    this.#updateInterest()
    if (this.#queue.length === 0) endWriting(this.#fd)
  }

  /** Resolves when the connection is closed. */
  whenClosed(): Promise<void> {
    if (!this.#open) return Promise.resolve()
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    clearTimeout(this.#late)
    this.#reactor.remove(this.#fd)
    closeSync(this.#fd)
    this.#queue = []
    for (const resolve of this.#waiting) resolve()
    this.#owner.closed(this)
  }

  #ready(events: number): void {
    if ((events & writable) !== 0) this.#sendQueued()
    if (!this.#open || (events & ~writable) === 0) return
    // Nobody is there any more who could be kept waiting; asking again and again would only burn time.
    if (this.#paused) this.close()
    else this.#receive()
  }

  #receive(): void {
    // Not kept between turns: clients say little, and rarely.
    const buffer = Buffer.allocUnsafe(READ_BYTES)
    const count = readSome(this.#fd, buffer)
    // Input for the container comes in streams.
    if (count === READ_BYTES) this.#reactor.expectMore()
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

  /** What of the frame is left to be sent; undefined when nothing is, or nobody will read it. */
  #sendNow(frame: Buffer): Buffer | undefined {
    if (!this.#open || this.#closing) return undefined
    if (this.#queue.length > 0) return frame
    const count = writeSome(this.#fd, frame)
    if (count === frame.length) return undefined
    if (count === tryAgain) return frame
    if (count < 0) {
      this.close()
      return undefined
    }
    this.#begun = true
    return frame.subarray(count)
  }

  #enqueue(frame: Buffer): void {
    this.#queue.push(frame)
    this.#queuedBytes += frame.length + FRAME_COST
    if (this.#queuedBytes > maxQueuedBytes) this.#drop()
    else this.#updateInterest()
  }

  #drop(): void {
    if (this.#farewell === undefined) {
      this.close()
      return
    }
    // A frame that has been begun must be completed, or the farewell could not be read.
    this.#queue = [...(this.#begun ? this.#queue.slice(0, 1) : []), this.#farewell]
    this.finish()
    this.#owner.dropped(this)
  }

  #sendQueued(): void {
    const state = this.#sendUntilFull()
    this.#updateInterest()
    if (state === 'broken') this.close()
    else if (state === 'empty' && this.#closing) endWriting(this.#fd)
  }

  #sendUntilFull(): 'empty' | 'full' | 'broken' {
    for (;;) {
      const [first] = this.#queue
      if (first === undefined) return 'empty'
      const count = writeSome(this.#fd, first)
      if (count === tryAgain) return 'full'
      if (count < 0) return 'broken'
      this.#begun = count < first.length
      this.#queuedBytes -= count
      if (this.#begun) this.#queue[0] = first.subarray(count)
      else {
        this.#queue.shift()
        this.#queuedBytes -= FRAME_COST
      }
    }
  }

  #updateInterest(): void {
    const interest = (this.#paused ? 0 : readable) | (this.#queue.length > 0 ? writable : 0)
    if (!this.#open || interest === this.#interest) return
    this.#interest = interest
    this.#reactor.change(this.#fd, interest)
  }
}
