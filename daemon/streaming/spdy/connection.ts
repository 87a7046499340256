/**
 * A server's SPDY/3.1 connection as Kubernetes speaks it: the client opens streams, there are no windows, and whoever cannot
 * take more stops reading the connection.
 *
 *   reading ──a stream is full, or answers pile up──► paused ──taken──► reading
 *   reading | paused ──finish()──► finishing: what comes is thrown away ──peer closes, or lingerMs──► closed
 *   any ──the peer leaves or breaks the rules, destroy()──► closed
 */
import type { Duplex } from 'node:stream'
import { RuntimeError } from '#proto/errors.ts'
import { type Frame, GO_AWAY, RST } from './frames.ts'
import { encodeHeaderBlock, HeaderReader } from './headers.ts'
import { FrameIntake } from './intake.ts'
import { SpdyStream, type StreamCarrier } from './stream.ts'
import { type Done, FrameWriter } from './writer.ts'

export interface SpdyHandlers {
  /** A stream was opened and answered. */
  stream(stream: SpdyStream): void
  /** The peer took back a stream that was open. */
  reset(stream: SpdyStream): void
  /** Data went in or out. */
  moved(): void
  /** Nothing more comes or goes; called once. */
  closed(why: RuntimeError): void
}

export interface SpdyLimits {
  /** Streams that may be open at a time. */
  maxStreams: number
  /** Bytes that may wait in one stream for its reader. */
  receiveBytes: number
  /** How long a paused connection waits before each ping. */
  pingMs?: number
  /** How long a finished connection waits for the peer to close, and again for the last bytes. */
  lingerMs?: number
}

const gone = (message: string, cause?: unknown): RuntimeError => new RuntimeError('cancelled', message, { cause })

export class SpdyConnection implements StreamCarrier {
  readonly #transport: Duplex
  readonly #handlers: SpdyHandlers
  readonly #limits: Required<SpdyLimits>
  readonly #intake: FrameIntake
  readonly #headers = new HeaderReader()
  readonly #out: FrameWriter
  readonly #streams = new Map<number, SpdyStream>()
  readonly #full = new Set<SpdyStream>()
  #state: 'open' | 'finishing' | 'closed' = 'open'
  #lastStreamId = 0
  #hasReplied = false
  #goneAway = false
  #pingId = 0
  #linger: NodeJS.Timeout | undefined

  /** @param head what was read from the transport already */
  constructor(transport: Duplex, head: Buffer, handlers: SpdyHandlers, limits: SpdyLimits) {
    this.#transport = transport
    this.#handlers = handlers
    this.#limits = { pingMs: 5_000, lingerMs: 5_000, ...limits }
    this.#out = new FrameWriter(transport, handlers.moved, () => this.#intake.goOn())
    transport.on('error', (cause) => this.#close(gone('The connection broke', cause)))
    transport.on('end', () => this.#close(gone('The client closed the connection')))
    transport.on('close', () => this.#close(gone('The connection is closed')))
    if (head.length > 0) transport.unshift(head)
    const intake = {
      frame: (frame: Frame) => this.#handle(frame),
      isBlocked: () => this.#full.size > 0 || this.#out.isClogged,
      violated: (error: unknown) => this.#violated(error),
      ping: () => this.#ping(),
    }
    this.#intake = new FrameIntake(transport, intake, this.#limits.pingMs)
  }

  /** Everything that was written so far is with the kernel. Resolves also when the connection is gone. */
  flushed(): Promise<void> {
    return this.#out.flushed()
  }

  /** All has been said: let the peer take it and close. Streams that are open are forgotten. */
  finish(): void {
    if (this.#state !== 'open') return
    this.#out.control({ type: 'go-away', lastStreamId: this.#lastStreamId, status: GO_AWAY.ok })
    this.#state = 'finishing'
    this.#dropStreams(undefined)
    this.#intake.stop()
    // Bytes that nobody has read when a socket is closed make the kernel take back what is on its way to the peer.
    this.#transport.resume()
    const { lingerMs } = this.#limits
    this.#linger = setTimeout(() => {
      this.#transport.end()
      this.#linger = setTimeout(() => this.destroy(), lingerMs)
    }, lingerMs)
  }

  /** At once, whatever is on its way. */
  destroy(why = gone('The connection was ended')): void {
    this.#close(why)
  }

  // What streams ask for.

  sendData(stream: SpdyStream, payload: Buffer, done: Done): void {
    if (this.#streams.get(stream.id) === stream) this.#out.data(stream.id, payload, done)
    else done(gone('The stream is closed'))
  }

  sendEnd(stream: SpdyStream): void {
    stream.localEnded = true
    if (this.#streams.get(stream.id) === stream) this.#out.end(stream.id)
    this.#forgetEnded(stream)
  }

  wantMore(stream: SpdyStream): void {
    if (this.#full.delete(stream)) this.#intake.goOn()
  }

  dropped(stream: SpdyStream, error: Error | null): void {
    if (this.#streams.get(stream.id) === stream && !(stream.localEnded && stream.remoteEnded)) {
      if (stream.tellDropBy === 'reset') this.#reset(stream.id, error === null ? RST.cancel : RST.internalError)
      else if (!stream.localEnded) this.#out.end(stream.id)
    }
    this.#forget(stream)
  }

  // Receiving.

  #handle(frame: Frame): void {
    if (frame.type === 'data') this.#handleData(frame)
    else if (frame.type === 'syn-stream') this.#open(frame)
    else if (frame.type === 'syn-reply' || frame.type === 'headers') {
      // They matter to nobody, but blocks after them refer to their text.
      this.#headers.decode(frame.headerBlock)
      const stream = this.#streams.get(frame.streamId)
      if (stream && frame.fin) this.#remoteEnd(stream)
    } else if (frame.type === 'rst-stream') this.#takenBack(frame.streamId)
    // Even ids are ours, come back.
    else if (frame.type === 'ping' && frame.id % 2 === 1) this.#out.control(frame)
    // The client opens nothing more; what is open goes on.
    else if (frame.type === 'go-away') this.#goneAway = true
  }

  #handleData({ streamId, payload, fin }: Extract<Frame, { type: 'data' }>): void {
    const stream = this.#streams.get(streamId)
    if (stream === undefined) {
      // What was on its way when a stream was closed is nothing to complain about.
      if (streamId > this.#lastStreamId || streamId % 2 === 0) this.#reset(streamId, RST.invalidStream)
    } else if (stream.remoteEnded) this.#reset(streamId, RST.streamAlreadyClosed)
    else {
      if (payload.length > 0) this.#handlers.moved()
      if (payload.length > 0 && !stream.receive(payload)) this.#full.add(stream)
      if (fin) this.#remoteEnd(stream)
    }
  }

  #open({ streamId, headerBlock, fin, unidirectional }: Extract<Frame, { type: 'syn-stream' }>): void {
    const headers = this.#headers.decode(headerBlock)
    const last = this.#lastStreamId
    if (streamId % 2 === 0 || streamId <= last)
      throw new RuntimeError('invalid-argument', `SPDY: a client cannot open stream ${streamId} after stream ${last}`)
    this.#lastStreamId = streamId
    if (this.#goneAway || this.#streams.size >= this.#limits.maxStreams) {
      this.#reset(streamId, RST.refusedStream)
      return
    }
    const stream = new SpdyStream(this, streamId, headers, this.#limits.receiveBytes)
    this.#streams.set(streamId, stream)
    // Clients drop the data of streams that were not answered.
    const block = encodeHeaderBlock(new Map(), !this.#hasReplied)
    this.#hasReplied = true
    this.#out.control({ type: 'syn-reply', streamId, fin: false, headerBlock: block })
    if (unidirectional) stream.localEnded = true
    if (fin) this.#remoteEnd(stream)
    this.#handlers.stream(stream)
  }

  #remoteEnd(stream: SpdyStream): void {
    stream.receiveEnd()
    this.#forgetEnded(stream)
  }

  #takenBack(streamId: number): void {
    const stream = this.#streams.get(streamId)
    if (stream === undefined) return
    this.#forget(stream)
    this.#handlers.reset(stream)
    stream.destroy(gone('The client took back the stream'))
  }

  #ping(): void {
    this.#pingId = (this.#pingId + 2) % 0x7ffffffe
    this.#out.control({ type: 'ping', id: this.#pingId })
  }

  #reset(streamId: number, status: number): void {
    this.#out.control({ type: 'rst-stream', streamId, status })
  }

  // Ending.

  #forgetEnded(stream: SpdyStream): void {
    if (stream.localEnded && stream.remoteEnded) this.#streams.delete(stream.id)
  }

  #forget(stream: SpdyStream): void {
    if (this.#streams.get(stream.id) === stream) this.#streams.delete(stream.id)
    if (this.#full.delete(stream)) this.#intake.goOn()
  }

  #violated(error: unknown): void {
    this.#out.control({ type: 'go-away', lastStreamId: this.#lastStreamId, status: GO_AWAY.protocolError })
    this.#transport.end()
    this.#close(
      error instanceof RuntimeError ? error : new RuntimeError('internal', 'Reading failed', { cause: error }),
    )
  }

  #dropStreams(error: Error | undefined): void {
    const streams = [...this.#streams.values()]
    this.#streams.clear()
    this.#full.clear()
    for (const stream of streams) stream.destroy(error)
  }

  #close(why: RuntimeError): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#intake.stop()
    clearTimeout(this.#linger)
    this.#dropStreams(why)
    this.#out.close()
    this.#transport.destroy()
    this.#handlers.closed(why)
  }
}
