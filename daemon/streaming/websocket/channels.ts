/**
 * Channels over one WebSocket as Kubernetes has them: the first byte of each message (a digit before base64 text) says which
 * channel the rest belongs to. There are no windows: a full channel stops the reading of the whole connection.
 */
import { Duplex } from 'node:stream'
import type { WebSocket } from 'ws'
import { RuntimeError } from '#proto/errors.ts'

/** Which way a channel goes, seen from here. Data on an ignored one is thrown away. */
export type Direction = 'in' | 'out' | 'both' | 'ignored'

export interface ChannelOptions {
  encoding: 'binary' | 'base64'
  /** By channel number, from 0. */
  directions: readonly Direction[]
  /** Version 5: channel 255 names a channel that the client closes. */
  closes: boolean
  /** Bytes that may wait in one channel for its reader. */
  receiveBytes: number
  /** Data went in or out. */
  moved(): void
  /** Nothing more comes or goes. */
  closed(why: RuntimeError): void
}

const CLOSE_CHANNEL = 255
const ASCII_ZERO = 0x30
const CLOSE_NORMAL = 1000
const CLOSE_PROTOCOL_ERROR = 1002
/** What may wait for a client that does not read. */
const MAX_UNSENT_BYTES = 262_144
/** How long a client may take to answer the closing. */
const LINGER_MS = 10_000

type Done = (error?: Error | null) => void

const sidesOf = (direction: Direction, receiveBytes: number) => ({
  readable: direction === 'in' || direction === 'both',
  writable: direction === 'out' || direction === 'both',
  readableHighWaterMark: receiveBytes,
  writableHighWaterMark: 262_144,
})

/** One channel as a Duplex, of which a side may be missing. */
class Channel extends Duplex {
  isClosedByClient = false
  readonly #carrier: WebSocketChannels
  readonly #id: number

  constructor(carrier: WebSocketChannels, id: number, direction: Direction, receiveBytes: number) {
    super(sidesOf(direction, receiveBytes))
    this.#carrier = carrier
    this.#id = id
    this.on('error', () => {})
  }

  override _read(): void {
    this.#carrier.wantMore(this)
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    this.#carrier.send(this.#id, chunk, done)
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#carrier.wantMore(this)
    done(error)
  }
}

export class WebSocketChannels {
  readonly #socket: WebSocket
  readonly #options: ChannelOptions
  readonly #channels: Channel[]
  readonly #full = new Set<Channel>()
  #state: 'open' | 'finishing' | 'closed' = 'open'
  #linger: NodeJS.Timeout | undefined

  constructor(socket: WebSocket, options: ChannelOptions) {
    this.#socket = socket
    this.#options = options
    this.#channels = options.directions.map((direction, id) => new Channel(this, id, direction, options.receiveBytes))
    socket.on('message', (data: Buffer) => this.#receive(data))
    socket.on('error', (cause) => this.#close(new RuntimeError('cancelled', 'The connection broke', { cause })))
    socket.on('close', () => this.#close(new RuntimeError('cancelled', 'The client closed the connection')))
  }

  /** @throws RangeError for a channel that was not declared */
  channel(id: number): Duplex {
    const channel = this.#channels[id]
    if (channel === undefined) throw new RangeError(`There is no channel ${id}`)
    return channel
  }

  /** Everything that was sent so far is with the kernel. Resolves also when the connection is gone. */
  flushed(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#socket.readyState !== this.#socket.OPEN) resolve()
      else this.#socket.pong('', false, () => resolve())
    })
  }

  /** All has been said: closes in order, and waits a moment for the client to do the same. */
  finish(code = CLOSE_NORMAL, reason = ''): void {
    if (this.#state !== 'open') return
    this.#state = 'finishing'
    this.#dropChannels(undefined)
    this.#socket.resume()
    this.#socket.close(code, reason)
    this.#linger = setTimeout(() => this.#socket.terminate(), LINGER_MS)
  }

  /** At once, whatever is on its way. */
  destroy(): void {
    this.#socket.terminate()
    this.#close(new RuntimeError('cancelled', 'The connection was ended'))
  }

  send(id: number, payload: Buffer, done: Done): void {
    if (this.#state !== 'open') {
      done(new RuntimeError('cancelled', 'The connection is closed'))
      return
    }
    const isBinary = this.#options.encoding === 'binary'
    const message = isBinary ? Buffer.concat([Buffer.from([id]), payload]) : `${id}${payload.toString('base64')}`
    let isOver = false
    const over = (error?: Error | null): void => {
      if (isOver) return
      isOver = true
      if (!error) this.#options.moved()
      done(error)
    }
    this.#socket.send(message, { binary: isBinary }, over)
    if (this.#socket.bufferedAmount < MAX_UNSENT_BYTES) over()
  }

  wantMore(channel: Channel): void {
    if (this.#full.delete(channel) && this.#full.size === 0) this.#socket.resume()
  }

  #receive(message: Buffer): void {
    if (this.#state !== 'open' || message.length === 0) return
    const isBinary = this.#options.encoding === 'binary'
    const id = message.readUInt8(0) - (isBinary ? 0 : ASCII_ZERO)
    const payload = isBinary ? message.subarray(1) : Buffer.from(message.toString('latin1', 1), 'base64')
    if (id === CLOSE_CHANNEL && this.#options.closes) this.#closeChannel(payload)
    else if (this.#channels[id] === undefined) this.#violated(`there is no channel ${id}`)
    else this.#deliver(this.#channels[id], payload)
  }

  #deliver(channel: Channel, payload: Buffer): void {
    if (payload.length === 0 || !channel.readable || channel.isClosedByClient) return
    this.#options.moved()
    if (channel.push(payload)) return
    this.#full.add(channel)
    this.#socket.pause()
  }

  #closeChannel(payload: Buffer): void {
    const channel = payload.length === 1 ? this.#channels[payload.readUInt8(0)] : undefined
    if (channel === undefined) this.#violated('a close message names one channel')
    else if (channel.readable && !channel.isClosedByClient) {
      channel.isClosedByClient = true
      channel.push(null)
    }
  }

  #violated(what: string): void {
    this.finish(CLOSE_PROTOCOL_ERROR, what)
    this.#options.closed(new RuntimeError('invalid-argument', `WebSocket: ${what}`))
  }

  #dropChannels(error: Error | undefined): void {
    this.#full.clear()
    for (const channel of this.#channels) channel.destroy(error)
  }

  #close(why: RuntimeError): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    clearTimeout(this.#linger)
    this.#dropChannels(why)
    this.#options.closed(why)
  }
}
