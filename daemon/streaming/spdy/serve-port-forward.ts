/**
 * Port-forwarding over SPDY: each connection of the client's is a pair of streams, one for data and one for a sentence when
 * the port cannot be reached. They find each other by their request id; clients of old have none and open both in a row.
 */
import type { Duplex } from 'node:stream'
import { RuntimeError } from '#proto/errors.ts'
import { forwardPort, parsePort } from '../forward-port.ts'
import type { Session } from '../live-sessions.ts'
import type { PortForwardRequest, StreamBackend } from '../session.ts'
import { SpdyConnection } from './connection.ts'
import type { SpdyStream } from './stream.ts'

export const PORT_FORWARD_PROTOCOL = 'portforward.k8s.io'

/** Connections at a time in one session. */
const MAX_PAIRS = 500
/** What waits for the pod in one connection before the whole session's reading stops. */
const DATA_BYTES = 65_536

interface Half {
  key: string
  type: 'data' | 'error'
  port: number
}

/** Which half of which pair a stream is; a sentence when it is none. */
export const halfOf = ({ headers, id }: Pick<SpdyStream, 'headers' | 'id'>): Half | string => {
  const type = headers.get('streamtype')
  if (type !== 'data' && type !== 'error') return 'the stream type must be "data" or "error"'
  const port = parsePort(headers.get('port'))
  if (port === undefined) return 'the port must be a number from 1 to 65535'
  // Without an id the error stream is opened first, and the data stream right after it.
  const key = headers.get('requestid') ?? `stream ${type === 'error' ? id : id - 2}`
  return { key, type, port }
}

type Waiting = { port: number; timer: NodeJS.Timeout } & ({ data: SpdyStream } | { error: SpdyStream })

interface PairOptions {
  creationMs: number
  forward(pair: { port: number; data: SpdyStream; error: SpdyStream }): Promise<void>
}

class Pairs {
  readonly #waiting = new Map<string, Waiting>()
  readonly #options: PairOptions
  #running = new Set<string>()

  constructor(options: PairOptions) {
    this.#options = options
  }

  take(stream: SpdyStream): void {
    const half = halfOf(stream)
    const first = typeof half === 'string' ? undefined : this.#waiting.get(half.key)
    if (typeof half === 'string' || !this.#fits(half, first)) stream.destroy()
    else if (first === undefined) this.#wait(half, stream)
    else this.#join(half.key, first, stream)
  }

  /** All halves that still wait for the other go. */
  close(): void {
    for (const { timer } of this.#waiting.values()) clearTimeout(timer)
    this.#waiting.clear()
  }

  #fits({ key, type, port }: Half, first: Waiting | undefined): boolean {
    if (first === undefined) return !this.#running.has(key) && this.#waiting.size + this.#running.size < MAX_PAIRS
    return first.port === port && !(type in first)
  }

  #wait({ key, type, port }: Half, stream: SpdyStream): void {
    const timer = setTimeout(() => {
      this.#waiting.delete(key)
      if (type === 'error') stream.end(`error forwarding port ${port}: its data stream was not opened in time`)
      else stream.destroy()
    }, this.#options.creationMs)
    this.#waiting.set(key, type === 'data' ? { port, timer, data: stream } : { port, timer, error: stream })
    stream.once('close', () => {
      if (this.#waiting.get(key)?.timer !== timer) return
      clearTimeout(timer)
      this.#waiting.delete(key)
    })
  }

  #join(key: string, first: Waiting, second: SpdyStream): void {
    clearTimeout(first.timer)
    this.#waiting.delete(key)
    this.#running.add(key)
    const [data, error] = 'data' in first ? [first.data, second] : [second, first.error]
    error.resume()
    const over = () => void this.#running.delete(key)
    this.#options.forward({ port: first.port, data, error }).then(over, over)
  }
}

export interface SpdyForwardOptions {
  backend: StreamBackend
  session: Session
  /** How long a stream waits for the other one of its pair. */
  creationMs: number
}

/** Resolves when the client has closed the connection, or the session was aborted. Never rejects. */
export const serveSpdyPortForward = async (
  transport: Duplex,
  head: Buffer,
  { sandboxId }: PortForwardRequest,
  { backend, session, creationMs }: SpdyForwardOptions,
): Promise<void> => {
  const pairs = new Pairs({ creationMs, forward: (pair) => forwardPort(pair, sandboxId, backend) })
  const connection = new SpdyConnection(
    transport,
    head,
    { stream: (stream) => pairs.take(stream), reset: () => {}, moved: session.moved, closed: session.abort },
    { maxStreams: 2 * MAX_PAIRS, receiveBytes: DATA_BYTES },
  )
  await session.aborted
  pairs.close()
  const { reason } = session.signal
  connection.destroy(reason instanceof RuntimeError ? reason : undefined)
}
