/**
 * Frames to the peer, in order. Data waits for a peer that does not read: one chunk per stream, for Writables give the next
 * one only then. Answers to the peer's own frames cannot wait, so they are counted, and the connection stops reading instead.
 */
import type { Duplex } from 'node:stream'
import { RuntimeError } from '#proto/errors.ts'
import { encodeControl, encodeDataHeader, MAX_DATA_BYTES } from './frames.ts'

/** Answers that may wait for a peer that does not read them, before nothing more of it is read. */
const MAX_UNSENT_CONTROL_BYTES = 65_536

export type Done = (error?: Error | null) => void

export class FrameWriter {
  readonly #transport: Duplex
  readonly #moved: () => void
  readonly #relieved: () => void
  #unsentControl = 0
  #closed = false

  /**
   * @param moved data is on its way
   * @param relieved isClogged has become false
   */
  constructor(transport: Duplex, moved: () => void, relieved: () => void) {
    this.#transport = transport
    this.#moved = moved
    this.#relieved = relieved
  }

  /** Too many answers wait for the peer. */
  get isClogged(): boolean {
    return this.#unsentControl > MAX_UNSENT_CONTROL_BYTES
  }

  control(frame: Parameters<typeof encodeControl>[0]): void {
    if (this.#closed || this.#transport.writableEnded || this.#transport.destroyed) return
    const bytes = encodeControl(frame)
    this.#unsentControl += bytes.length
    this.#transport.write(bytes, () => {
      const wasClogged = this.isClogged
      this.#unsentControl -= bytes.length
      if (wasClogged && !this.isClogged) this.#relieved()
    })
  }

  /** Calls `done` when the payload is with the kernel: its memory may be used again then. */
  data(streamId: number, payload: Buffer, done: Done): void {
    if (this.#closed) {
      done(new RuntimeError('cancelled', 'The connection is closed'))
      return
    }
    this.#transport.cork()
    for (let at = 0; at < payload.length; at += MAX_DATA_BYTES) {
      const piece = payload.subarray(at, at + MAX_DATA_BYTES)
      const isLast = at + MAX_DATA_BYTES >= payload.length
      this.#transport.write(encodeDataHeader(streamId, piece.length, false))
      this.#transport.write(piece, isLast ? (error) => this.#sent(done, error) : undefined)
    }
    this.#transport.uncork()
  }

  #sent(done: Done, error?: Error | null): void {
    if (!error) this.#moved()
    done(error)
  }

  /** Half-closes a stream. */
  end(streamId: number): void {
    if (!this.#closed) this.#transport.write(encodeDataHeader(streamId, 0, true))
  }

  /** Everything that was written so far is with the kernel. Resolves also when the connection is gone. */
  flushed(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#closed || this.#transport.destroyed) resolve()
      else this.#transport.write('', () => resolve())
    })
  }

  /** Nothing goes out any more. */
  close(): void {
    this.#closed = true
  }
}
