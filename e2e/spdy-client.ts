/**
 * SPDY/3.1 as Kubernetes' clients speak it, written from their side and without our own sources: streams named by headers, no windows,
 * header blocks in a zlib stream that begins with a preset dictionary (here stored, so that the dictionary is not needed).
 */

import { request } from 'node:http'
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'

const CONTROL = 0x8003
const SYN_STREAM = 1
const RST_STREAM = 3
const FIN = 1
/** How a zlib stream says that it needs a dictionary, and that of SPDY/3 as its checksum. */
const ZLIB_HEADER = Buffer.from([0x78, 0x20, 0xe3, 0xc6, 0xa7, 0xc2])

function nameValues(headers: Record<string, string>): Buffer {
  const words = Object.entries(headers).flat()
  const count = Buffer.alloc(4)
  count.writeUInt32BE(words.length / 2)
  return Buffer.concat([count, ...words.flatMap((word) => [uint32(word.length), Buffer.from(word)])])
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value >>> 0)
  return bytes
}

function stored(bytes: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt16LE(bytes.length, 1)
  head.writeUInt16LE(~bytes.length & 0xffff, 3)
  return Buffer.concat([head, bytes])
}

/** One stream; ending it closes our half. */
export class SpdyStream extends Duplex {
  readonly #client: SpdyClient
  readonly #id: number

  constructor(client: SpdyClient, id: number) {
    super({ allowHalfOpen: true, writableHighWaterMark: 256 * 1024 })
    this.#client = client
    this.#id = id
    this.on('error', () => {})
  }

  override _write(bytes: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#client.send(Buffer.concat([uint32(this.#id), uint32(bytes.length), bytes]), done)
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#client.send(Buffer.concat([uint32(this.#id), uint32((FIN << 24) >>> 0)]), done)
  }

  override _read(): void {}
}

export class SpdyClient {
  readonly socket: Socket
  readonly #streams = new Map<number, SpdyStream>()
  #nextId = 1
  #pending: Buffer[] = []
  #pendingBytes = 0

  private constructor(socket: Socket, head: Buffer) {
    this.socket = socket
    socket.setNoDelay(true)
    socket.on('data', (bytes: Buffer) => this.#take(bytes))
    socket.on('error', () => {})
    socket.on('close', () => {
      for (const stream of this.#streams.values()) stream.destroy()
    })
    if (head.length > 0) this.#take(head)
  }

  /** @param protocol for instance "v4.channel.k8s.io" */
  static async connect(url: string, protocol: string): Promise<SpdyClient> {
    const headers = { connection: 'Upgrade', upgrade: 'SPDY/3.1', 'x-stream-protocol-version': protocol }
    const asked = request(url, { method: 'POST', headers })
    asked.end()
    asked.once('response', (response) => asked.destroy(new Error(`refused with ${response.statusCode}`)))
    return new Promise((resolve, reject) => {
      asked.once('error', reject)
      asked.once('upgrade', (_response, socket: Socket, head: Buffer) => resolve(new SpdyClient(socket, head)))
    })
  }

  open(headers: Record<string, string>): SpdyStream {
    const id = this.#nextId
    this.#nextId += 2
    const block = Buffer.concat([...(id === 1 ? [ZLIB_HEADER] : []), stored(nameValues(headers))])
    const head = Buffer.alloc(18)
    head.writeUInt16BE(CONTROL, 0)
    head.writeUInt16BE(SYN_STREAM, 2)
    head.writeUInt32BE(10 + block.length, 4)
    head.writeUInt32BE(id, 8)
    this.send(Buffer.concat([head, block]), () => {})
    const stream = new SpdyStream(this, id)
    this.#streams.set(id, stream)
    return stream
  }

  /** `done` once the server takes more. */
  send(bytes: Buffer, done: (error?: Error | null) => void): void {
    if (this.socket.destroyed) done(new Error('the connection is gone'))
    else if (this.socket.write(bytes)) done()
    else this.socket.once('drain', () => done())
  }

  #take(bytes: Buffer): void {
    this.#pending.push(bytes)
    this.#pendingBytes += bytes.length
    while (this.#frame());
  }

  /** Takes one frame; says whether there was one. */
  #frame(): boolean {
    if (this.#pendingBytes < 8) return false
    if ((this.#pending[0]?.length ?? 0) < 8) this.#pending = [Buffer.concat(this.#pending)]
    const head = this.#pending[0]
    if (head === undefined) return false
    const length = 8 + head.readUIntBE(5, 3)
    if (this.#pendingBytes < length) return false
    const all = this.#pending.length === 1 ? head : Buffer.concat(this.#pending)
    this.#pending = [all.subarray(length)]
    this.#pendingBytes -= length
    this.#received(all.subarray(0, length))
    return true
  }

  #received(frame: Buffer): void {
    const word = frame.readUInt32BE(0)
    if ((word & 0x80000000) === 0) {
      const stream = this.#streams.get(word)
      if (frame.length > 8) stream?.push(frame.subarray(8))
      if ((frame.readUInt8(4) & FIN) !== 0) stream?.push(null)
    } else if ((word & 0xffff) === RST_STREAM) this.#streams.get(frame.readUInt32BE(8))?.destroy()
  }
}
