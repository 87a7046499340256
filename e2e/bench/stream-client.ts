/**
 * A client for streaming URLs that costs as little as it can: SPDY/3.1 as kubectl speaks it, data counted and thrown away.
 * Header blocks are stored, not deflated; those of answers are not looked at.
 */

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

/** How a zlib stream with SPDY's dictionary begins, and how a block of it ends. */
const STREAM_START = Buffer.from('78bbe3c6a7c2', 'hex')
const FLUSH = Buffer.from('000000ffff', 'hex')

const word = (value: number): Buffer => {
  const bytes = Buffer.allocUnsafe(4)
  bytes.writeUInt32BE(value >>> 0)
  return bytes
}

const counted = (text: string): Buffer => Buffer.concat([word(text.length), Buffer.from(text)])

/** What came on one stream. */
export class CountedStream {
  bytes = 0
  /** The first bytes, for short answers. */
  text = ''
  readonly ended: Promise<void>
  end: () => void = () => {}

  constructor() {
    this.ended = new Promise((resolve) => {
      this.end = resolve
    })
  }
}

export class StreamClient {
  readonly socket: Socket
  readonly #streams = new Map<number, CountedStream>()
  #nextId = 1
  #hasHeaders = false
  /** The eight bytes of a frame's head, as far as they are there. */
  #head = Buffer.alloc(0)
  #left = 0
  #stream: CountedStream | undefined
  #ends = false

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => this.#receive(chunk))
    socket.on('error', () => {})
    socket.on('close', () => {
      for (const stream of this.#streams.values()) stream.end()
    })
  }

  /** Opens a stream; its id and what comes on it. */
  open(headers: Record<string, string>): { id: number; got: CountedStream } {
    const id = this.#nextId
    this.#nextId += 2
    const pairs = Object.entries(headers).flatMap(([name, value]) => [counted(name.toLowerCase()), counted(value)])
    const text = Buffer.concat([word(Object.keys(headers).length), ...pairs])
    const stored = Buffer.from([
      0,
      text.length & 0xff,
      text.length >> 8,
      ~text.length & 0xff,
      (~text.length >> 8) & 0xff,
    ])
    const block = Buffer.concat([this.#hasHeaders ? Buffer.alloc(0) : STREAM_START, stored, text, FLUSH])
    this.#hasHeaders = true
    const got = new CountedStream()
    this.#streams.set(id, got)
    this.socket.write(Buffer.concat([word(0x80030001), word(10 + block.length), word(id), Buffer.alloc(6), block]))
    return { id, got }
  }

  /** Sends so many zeros in frames of 32 KiB, as kubectl does. */
  async send(id: number, bytes: number): Promise<void> {
    const frame = Buffer.concat([word(id), word(32_768), Buffer.alloc(32_768)])
    for (let left = bytes; left > 0; left -= 32_768) {
      const size = Math.min(left, 32_768)
      const piece = size === 32_768 ? frame : Buffer.concat([word(id), word(size), Buffer.alloc(size)])
      if (!this.socket.write(piece)) await once(this.socket, 'drain')
    }
  }

  end(id: number): void {
    this.socket.write(Buffer.concat([word(id), word(0x01000000)]))
  }

  #receive(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.#left > 0) at += this.#take(chunk.subarray(at, at + this.#left))
      else {
        const missing = 8 - this.#head.length
        this.#head = Buffer.concat([this.#head, chunk.subarray(at, at + missing)])
        at += missing
        if (this.#head.length === 8) this.#begin()
      }
    }
  }

  #begin(): void {
    const first = this.#head.readUInt32BE(0)
    const second = this.#head.readUInt32BE(4)
    this.#head = Buffer.alloc(0)
    this.#left = second & 0xffffff
    this.#stream = this.#streams.get(first)
    this.#ends = this.#stream !== undefined && second >>> 24 === 1
    if (this.#left === 0 && this.#ends) this.#stream?.end()
  }

  #take(piece: Buffer): number {
    this.#left -= piece.length
    if (this.#stream) {
      this.#stream.bytes += piece.length
      if (this.#stream.text.length < 200) this.#stream.text += piece.toString('latin1', 0, 200)
      if (this.#left === 0 && this.#ends) this.#stream.end()
    }
    return piece.length
  }
}

/** Upgrades a streaming URL. Throws with the server's answer when it refuses. */
export async function dialStream(url: string, protocol: string): Promise<StreamClient> {
  const { hostname, port, pathname, host } = new URL(url)
  const socket = connect({ host: hostname, port: Number(port), noDelay: true })
  await once(socket, 'connect')
  const lines = [
    'Connection: Upgrade',
    'Upgrade: SPDY/3.1',
    'Content-Length: 0',
    `X-Stream-Protocol-Version: ${protocol}`,
  ]
  socket.write([`POST ${pathname} HTTP/1.1`, `Host: ${host}`, ...lines, '', ''].join('\r\n'))
  let answer = ''
  while (!answer.includes('\r\n\r\n')) answer += String(await once(socket, 'data'))
  if (!answer.startsWith('HTTP/1.1 101')) throw new Error(answer)
  return new StreamClient(socket)
}
