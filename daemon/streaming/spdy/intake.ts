/**
 * The reading side of a connection: frames one at a time, as long as nobody has enough. A connection that is not read does not
 * notice a peer that is gone, so it asks for pings: a dead peer answers those with a reset.
 */
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { lendChunk, releaseBytes } from '../release-chunk.ts'
import { type Frame, FrameReader } from './frames.ts'

export interface IntakeHandlers {
  frame(frame: Frame): void
  /** Somebody cannot take more. */
  isBlocked(): boolean
  /** A frame broke the rules; nothing more is read. */
  violated(error: unknown): void
  /** Reading has been stopped for a while. */
  ping(): void
}

/** What one turn of the event loop may cost: that many frames, or a few streams, which take a third of a millisecond each. */
const TURN_COST = 1_024
const STREAM_COST = 32

export class FrameIntake {
  readonly #transport: Duplex
  readonly #handlers: IntakeHandlers
  readonly #pingMs: number
  readonly #frames = new FrameReader()
  #isPumping = false
  /** Frames wait for the next turn of the event loop, for others have to get theirs. */
  #isTurnOver = false
  #isStopped = false
  /** What is being read, and how many of its bytes went on as data. */
  #lent: { memory: ArrayBufferLike; bytes: number; handed: number } | undefined
  #pinger: NodeJS.Timeout | undefined

  constructor(transport: Duplex, handlers: IntakeHandlers, pingMs: number) {
    this.#transport = transport
    this.#handlers = handlers
    this.#pingMs = pingMs
    transport.on('data', (chunk: Buffer) => {
      if (this.#isStopped) return
      this.#take(chunk)
      this.#pump()
    })
  }

  /** Whoever had enough takes more. */
  goOn(): void {
    if (!this.#isStopped && !this.#isBlocked) setImmediate(() => this.#pump())
  }

  /** What comes from now on is read and thrown away. */
  stop(): void {
    this.#isStopped = true
    this.#stopPinging()
  }

  #take(chunk: Buffer): void {
    // Together with a rest it is copied, and read from the copy.
    const isAlone = this.#frames.unread === 0 && this.#transport instanceof Socket
    this.#lent = isAlone ? { memory: chunk.buffer, bytes: chunk.byteLength, handed: 0 } : undefined
    if (isAlone) lendChunk(chunk)
    this.#frames.push(chunk)
  }

  /** All of it was read: what did not go on as data was frames' heads. */
  #settle(): void {
    const lent = this.#lent
    if (lent === undefined || this.#frames.unread > 0) return
    this.#lent = undefined
    releaseBytes(lent.memory, lent.bytes - lent.handed)
  }

  get #isBlocked(): boolean {
    return this.#isTurnOver || this.#handlers.isBlocked()
  }

  #pump(): void {
    if (this.#isPumping) return
    this.#isPumping = true
    try {
      this.#handleFrames()
    } catch (error) {
      this.#handlers.violated(error)
    }
    this.#isPumping = false
    this.#settle()
    if (this.#isStopped) return
    if (this.#isBlocked) this.#pause()
    else {
      this.#stopPinging()
      this.#transport.resume()
    }
  }

  #handleFrames(): void {
    let left = TURN_COST
    while (!this.#isStopped && !this.#isBlocked) {
      const frame = this.#frames.next()
      if (frame === undefined) return
      if (frame.type === 'data' && this.#lent) this.#lent.handed += frame.payload.byteLength
      this.#handlers.frame(frame)
      left -= frame.type === 'syn-stream' ? STREAM_COST : 1
      if (left <= 0) this.#endTurn()
    }
  }

  #endTurn(): void {
    this.#isTurnOver = true
    setImmediate(() => {
      this.#isTurnOver = false
      this.#pump()
    })
  }

  #pause(): void {
    this.#transport.pause()
    this.#pinger ??= setInterval(this.#handlers.ping, this.#pingMs)
  }

  #stopPinging(): void {
    clearInterval(this.#pinger)
    this.#pinger = undefined
  }
}
