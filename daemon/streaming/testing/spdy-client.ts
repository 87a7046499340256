/**
 * A client of our own for SPDY/3.1, as raw as tests need it: it deflates its headers as Go's clients do, and may break every
 * rule. It reads only as long as its socket is not paused.
 */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import { constants, createDeflate } from 'node:zlib'
import { DICTIONARY } from '../spdy/dictionary.ts'
import { encodeControl, encodeDataHeader, type Frame, FrameReader } from '../spdy/frames.ts'
import { encodeNameValues, HeaderReader } from '../spdy/headers.ts'

/** One stream as the client sees it. */
export class ClientStream {
  readonly id: number
  readonly #client: SpdyClient
  readonly chunks: Buffer[] = []
  bytes = 0
  replied = false
  ended = false
  resetBy: number | undefined
  /** Whether chunks are kept, or only counted. */
  keep = true
  /** Ended or reset by the server, or the connection is gone. */
  readonly over: Promise<void>
  settle = () => {}

  constructor(client: SpdyClient, id: number) {
    this.#client = client
    this.id = id
    this.over = new Promise((resolve) => {
      this.settle = resolve
    })
  }

  write(data: Buffer | string): boolean {
    const bytes = Buffer.from(data)
    return this.#client.send(Buffer.concat([encodeDataHeader(this.id, bytes.length, false), bytes]))
  }

  end(data: Buffer | string = ''): void {
    const bytes = Buffer.from(data)
    this.#client.send(Buffer.concat([encodeDataHeader(this.id, bytes.length, true), bytes]))
  }

  reset(status = 5): void {
    this.#client.send(encodeControl({ type: 'rst-stream', streamId: this.id, status }))
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString()
  }

  async whole(): Promise<string> {
    await this.over
    return this.text
  }
}

export class SpdyClient {
  readonly socket: Socket
  readonly streams = new Map<number, ClientStream>()
  readonly control: Frame[] = []
  readonly closed: Promise<void>
  goAway: number | undefined
  readonly #frames = new FrameReader()
  readonly #headers = new HeaderReader()
  readonly #deflate = createDeflate({ dictionary: DICTIONARY })
  readonly #deflated: Buffer[] = []
  #nextId = 1

  constructor(socket: Socket, rest: Buffer) {
    this.socket = socket
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()))
    this.#deflate.on('data', (chunk: Buffer) => this.#deflated.push(chunk))
    if (rest.length > 0) socket.unshift(rest)
    socket.on('data', (chunk: Buffer) => this.#receive(chunk))
    socket.on('close', () => {
      this.#deflate.close()
      for (const stream of this.streams.values()) stream.settle()
    })
  }

  send(bytes: Buffer): boolean {
    return !this.socket.destroyed && this.socket.write(bytes)
  }

  /** A block as Go's zlib makes it: flushed to a byte boundary. `text` may be anything. */
  async block(text: Buffer): Promise<Buffer> {
    this.#deflate.write(text)
    await new Promise<void>((resolve) => this.#deflate.flush(constants.Z_SYNC_FLUSH, () => resolve()))
    return Buffer.concat(this.#deflated.splice(0))
  }

  async open(headers: Record<string, string>, options: { id?: number; fin?: boolean } = {}): Promise<ClientStream> {
    const streamId = options.id ?? this.#nextId
    this.#nextId = streamId + 2
    const stream = new ClientStream(this, streamId)
    this.streams.set(streamId, stream)
    const headerBlock = await this.block(encodeNameValues(new Map(Object.entries(headers))))
    const fin = options.fin ?? false
    this.send(encodeControl({ type: 'syn-stream', streamId, fin, unidirectional: false, headerBlock }))
    return stream
  }

  /** Opens the streams of exec or attach, by type. */
  async openAll<Type extends string>(...types: Type[]): Promise<Record<Type, ClientStream>> {
    const opened: [string, ClientStream][] = []
    for (const type of types) opened.push([type, await this.open({ streamType: type })])
    return Object.fromEntries(opened) as Record<Type, ClientStream>
  }

  /** Opens the pair of one forwarded connection as kubectl does. */
  async forward(port: number | string, requestID?: string): Promise<{ data: ClientStream; error: ClientStream }> {
    const headers = { port: String(port), ...(requestID !== undefined && { requestID }) }
    const error = await this.open({ streamType: 'error', ...headers })
    error.end()
    return { error, data: await this.open({ streamType: 'data', ...headers }) }
  }

  ping(id: number): void {
    this.send(encodeControl({ type: 'ping', id }))
  }

  close(): void {
    this.socket.destroy()
  }

  #receive(chunk: Buffer): void {
    this.#frames.push(chunk)
    for (let frame = this.#frames.next(); frame !== undefined; frame = this.#frames.next()) this.#handle(frame)
  }

  #handle(frame: Frame): void {
    if (frame.type === 'go-away') this.goAway = frame.status
    if (frame.type !== 'data') this.control.push(frame)
    if (frame.type === 'syn-reply') this.#headers.decode(frame.headerBlock)
    const stream = 'streamId' in frame ? this.streams.get(frame.streamId) : undefined
    if (stream === undefined) return
    if (frame.type === 'syn-reply') stream.replied = true
    else if (frame.type === 'rst-stream') {
      stream.resetBy = frame.status
      stream.settle()
    } else if (frame.type === 'data') {
      stream.bytes += frame.payload.length
      if (stream.keep) stream.chunks.push(Buffer.from(frame.payload))
      if (!frame.fin) return
      stream.ended = true
      stream.settle()
    }
  }
}

const dial = async (url: URL, tls: ConnectionOptions): Promise<Socket> => {
  const to = { host: url.hostname.replaceAll(/[[\]]/g, ''), port: Number(url.port) }
  const isTls = url.protocol === 'https:'
  const socket = isTls ? connectTls({ rejectUnauthorized: false, ...tls, ...to }) : connect(to)
  await once(socket, isTls ? 'secureConnect' : 'connect')
  socket.on('error', () => {})
  return socket
}

interface AskOptions {
  method?: string
  tls?: ConnectionOptions
  /** Bytes right behind the head. */
  behind?: Buffer
  /** Instead of that of the URL. */
  path?: string
}

export interface HttpAnswer {
  status: number
  headers: Map<string, string>
  /** What came with the head. */
  rest: Buffer
  socket: Socket
}

/** Sends the head of a request, and gives that of the answer. Rejects when the server says nothing. */
export const ask = async (
  url: string,
  lines: readonly string[],
  { method = 'POST', tls = {}, behind = Buffer.alloc(0), path }: AskOptions = {},
): Promise<HttpAnswer> => {
  const to = new URL(url)
  const socket = await dial(to, tls)
  const first = `${method} ${path ?? `${to.pathname}${to.search}`} HTTP/1.1`
  socket.write(Buffer.concat([Buffer.from([first, `Host: ${to.host}`, ...lines, '', ''].join('\r\n')), behind]))
  let got = Buffer.alloc(0)
  await new Promise<void>((resolve, reject) => {
    const take = (chunk: Buffer) => {
      got = Buffer.concat([got, chunk])
      if (!got.includes('\r\n\r\n')) return
      socket.pause()
      socket.off('data', take)
      socket.off('close', fail)
      resolve()
    }
    const fail = () => reject(new Error(`The server closed the connection after ${got.length} bytes`))
    socket.on('data', take)
    socket.on('close', fail)
  })
  const end = got.indexOf('\r\n\r\n')
  const [status = '', ...fields] = got.toString('latin1', 0, end).split('\r\n')
  const headers = new Map(
    fields.map((line) => [(line.split(':')[0] ?? '').toLowerCase(), line.replace(/^[^:]*: */, '')]),
  )
  return { socket, status: Number(status.split(' ')[1]), headers, rest: got.subarray(end + 4) }
}

export const upgradeLines = (...versions: string[]): string[] => [
  'Connection: Upgrade',
  'Upgrade: SPDY/3.1',
  'Content-Length: 0',
  ...versions.map((version) => `X-Stream-Protocol-Version: ${version}`),
]

interface DialOptions {
  versions?: string[]
  tls?: ConnectionOptions
  method?: string
}

/** A connected client. Rejects with the answer's status and text when the server does not switch protocols. */
export const dialSpdy = async (
  url: string,
  { versions = ['v4.channel.k8s.io'], tls = {}, method = 'POST' }: DialOptions = {},
): Promise<SpdyClient> => {
  const { socket, status, rest } = await ask(url, upgradeLines(...versions), { tls, method })
  if (status !== 101) {
    socket.destroy()
    throw new Error(`${status} ${rest}`)
  }
  const client = new SpdyClient(socket, rest)
  socket.resume()
  return client
}
