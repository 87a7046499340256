/**
 * One socket to a plugin: calls to it, and its calls to us. Whatever breaks the protocol, or the socket, ends this peer and no
 * other; calls that wait then get PeerGone.
 */
import type { Duplex } from 'node:stream'
import { type ErrorKind, messageOf, RuntimeError } from '#proto/errors.ts'
import { Request, Response } from '#proto/generated/ttrpc.ts'
import { CONNECTION, encodeMessage, MAX_MESSAGE_BYTES, MESSAGE, MESSAGE_TYPE, OUTER } from './frames.ts'
import { FrameSplitter, ProtocolError } from './split-frames.ts'

/** The connection has ended, or the peer did not answer in time, which ends it. */
export class PeerGone extends Error {}

/** The peer's own answer is an error. */
export class PeerRefused extends Error {
  /** As in gRPC. */
  readonly code: number
  constructor(code: number, message: string) {
    super(message)
    this.code = code
  }
}

/** As in gRPC. */
export const CODE = { unknown: 2, invalidArgument: 3, resourceExhausted: 8, unimplemented: 12 } as const

const CODES: Partial<Record<ErrorKind, number>> = {
  'invalid-argument': 3,
  'deadline-exceeded': 4,
  'not-found': 5,
  'already-exists': 6,
  'permission-denied': 7,
  'resource-exhausted': 8,
  'failed-precondition': 9,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
}

/** Answers a call of the peer; what it throws is the answer too. */
export type Serve = (service: string, method: string, payload: Buffer) => Promise<Uint8Array>

/** More calls at once than any plugin has use for. */
const MAX_SERVED_AT_ONCE = 16
const MAX_STREAM_ID = 0xffff_fffe
/** What may wait for a peer that does not read, before it is given up. */
const MAX_UNREAD_BYTES = 4 * MAX_MESSAGE_BYTES

export class Peer {
  readonly #socket: Duplex
  readonly #serve: Serve
  readonly #calls = new Map<number, PromiseWithResolvers<Buffer>>()
  readonly #closed = Promise.withResolvers<string>()
  #nextStream = 1
  #lastServed = 0
  #serving = 0
  #isClosed = false

  constructor(socket: Duplex, serve: Serve) {
    this.#socket = socket
    this.#serve = serve
    const connections = new Map([
      [CONNECTION.plugin, new FrameSplitter(MESSAGE, (header, payload) => this.#answered(header, payload))],
      [CONNECTION.runtime, new FrameSplitter(MESSAGE, (header, payload) => this.#asked(header, payload))],
    ] as const)
    const outer = new FrameSplitter(OUTER, (header, payload) => {
      // A connection that nobody knows here is passed over, as the reference does.
      for (const [id, splitter] of connections) if (id === header.readUInt32BE(0)) splitter.push(payload)
    })
    socket.on('data', (chunk: Buffer) => {
      if (this.#isClosed) return
      try {
        outer.push(chunk)
      } catch (error) {
        this.close(`it does not speak the protocol: ${messageOf(error)}`)
      }
    })
    socket.on('error', (error) => this.close(messageOf(error)))
    socket.on('close', () => this.close('it closed the connection'))
    socket.on('end', () => this.close('it closed the connection'))
  }

  /** Resolves once, with the reason. */
  get closed(): Promise<string> {
    return this.#closed.promise
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  close(why: string): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#socket.destroy()
    for (const call of this.#calls.values()) call.reject(new PeerGone(why))
    this.#calls.clear()
    this.#closed.resolve(why)
  }

  /**
   * @returns the encoded answer
   * @throws PeerGone, also when there is no answer in time: who does not answer is not asked again; PeerRefused
   */
  async call(service: string, method: string, payload: Uint8Array, timeoutMs: number): Promise<Buffer> {
    if (this.#isClosed) throw new PeerGone('the connection is closed')
    const request = Request.encode({
      service,
      method,
      payload: Buffer.from(payload),
      timeoutNano: nanoseconds(timeoutMs),
    })
    const bytes = request.finish()
    if (bytes.length > MAX_MESSAGE_BYTES)
      throw new PeerRefused(CODE.resourceExhausted, `${method} takes ${bytes.length} bytes, more than a message holds`)
    const stream = this.#nextStream
    if (stream > MAX_STREAM_ID) this.close('all its stream ids are used up')
    this.#nextStream += 2
    const answer = Promise.withResolvers<Buffer>()
    this.#calls.set(stream, answer)
    const timer = setTimeout(() => this.close(`it did not answer ${method} within ${timeoutMs} ms`), timeoutMs)
    try {
      this.#send(CONNECTION.plugin, stream, MESSAGE_TYPE.request, bytes)
      return await answer.promise
    } finally {
      clearTimeout(timer)
    }
  }

  #send(connection: number, stream: number, type: number, payload: Uint8Array): void {
    if (this.#isClosed) return
    this.#socket.write(encodeMessage(connection, stream, type, payload))
    if (this.#socket.writableLength > MAX_UNREAD_BYTES) this.close('it does not read what it is sent')
  }

  #answered(header: Buffer, payload: Buffer): void {
    if (header.readUInt8(8) !== MESSAGE_TYPE.response) throw new ProtocolError('something else than an answer')
    const stream = header.readUInt32BE(4)
    const call = this.#calls.get(stream)
    if (!call) throw new ProtocolError(`an answer on stream ${stream}, which waits for none`)
    this.#calls.delete(stream)
    const { status, payload: answer } = Response.decode(payload)
    if (status && status.code !== 0) call.reject(new PeerRefused(status.code, status.message))
    else call.resolve(answer)
  }

  #asked(header: Buffer, payload: Buffer): void {
    if (header.readUInt8(8) !== MESSAGE_TYPE.request) throw new ProtocolError('something else than a request')
    const stream = header.readUInt32BE(4)
    if (stream % 2 !== 1 || stream <= this.#lastServed) throw new ProtocolError(`stream id ${stream} out of order`)
    this.#lastServed = stream
    void this.#answer(stream, Request.decode(payload))
  }

  async #answer(stream: number, { service, method, payload }: Request): Promise<void> {
    const reply = (response: Response): void =>
      this.#send(CONNECTION.runtime, stream, MESSAGE_TYPE.response, Response.encode(response).finish())
    if (this.#serving >= MAX_SERVED_AT_ONCE) {
      reply(refusal(new RuntimeError('resource-exhausted', `More than ${MAX_SERVED_AT_ONCE} calls at once`)))
      return
    }
    this.#serving++
    try {
      reply({ status: undefined, payload: Buffer.from(await this.#serve(service, method, payload)) })
    } catch (error) {
      reply(refusal(error))
    } finally {
      this.#serving--
    }
  }
}

const refusal = (error: unknown): Response => ({
  status: {
    code: (error instanceof RuntimeError ? CODES[error.kind] : undefined) ?? CODE.unknown,
    message: messageOf(error),
  },
  payload: Buffer.alloc(0),
})

const nanoseconds = (ms: number): bigint => BigInt(Math.ceil(ms)) * 1_000_000n
