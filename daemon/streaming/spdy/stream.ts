/** One stream of a SPDY connection as a Duplex: reading ends when the peer half-closes, ending half-closes our side. */
import { Duplex } from 'node:stream'
import type { Headers } from './headers.ts'
import type { Done } from './writer.ts'

/** The connection that a stream belongs to. */
export interface StreamCarrier {
  /** Calls `done` when more may be written. */
  sendData(stream: SpdyStream, payload: Buffer, done: Done): void
  sendEnd(stream: SpdyStream): void
  /** The reader of this stream wants more. */
  wantMore(stream: SpdyStream): void
  /** The stream is destroyed; unless both sides have ended, the peer has to be told. */
  dropped(stream: SpdyStream, error: Error | null): void
}

/** Several reads of a pipe fit: otherwise each of them would stop and start the reading. */
const SEND_BYTES = 262_144

export class SpdyStream extends Duplex {
  readonly id: number
  readonly headers: Headers
  /** The peer has half-closed. */
  remoteEnded = false
  /** We have half-closed. */
  localEnded = false
  /**
   * How the peer is told that nobody reads any more: a reset is a failure that clients may complain about; an end says no
   * more than that nothing comes from us, and what the peer still sends is thrown away.
   */
  tellDropBy: 'reset' | 'end' = 'reset'
  readonly #carrier: StreamCarrier

  /** @param receiveBytes how much may wait for the reader before the connection stops reading */
  constructor(carrier: StreamCarrier, id: number, headers: Headers, receiveBytes: number) {
    super({ allowHalfOpen: true, readableHighWaterMark: receiveBytes, writableHighWaterMark: SEND_BYTES })
    this.id = id
    this.headers = headers
    this.#carrier = carrier
    // Whoever uses the stream sees the error in its pipeline; without a listener it would end the daemon.
    this.on('error', () => {})
  }

  /** From the connection: data came. Whether the reader takes more. */
  receive(payload: Buffer): boolean {
    return this.remoteEnded || this.destroyed || this.push(payload)
  }

  /** From the connection: the peer has half-closed. */
  receiveEnd(): void {
    if (this.remoteEnded) return
    this.remoteEnded = true
    this.push(null)
  }

  override _read(): void {
    this.#carrier.wantMore(this)
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    this.#carrier.sendData(this, chunk, done)
  }

  override _final(done: Done): void {
    if (!this.localEnded) this.#carrier.sendEnd(this)
    done()
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#carrier.dropped(this, error)
    done(error)
  }
}
