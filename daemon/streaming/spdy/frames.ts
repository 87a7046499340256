/**
 * SPDY/3.1 frames to bytes and back, as Kubernetes uses them (SPDY protocol draft 3, 2.2 and 2.6). Pure: no sockets, no
 * streams. A data frame is handed on in the pieces in which it arrives, so that its length, which may be 16 MiB, costs nothing.
 */
import { RuntimeError } from '#proto/errors.ts'

/** What a RST_STREAM says (2.6.3). */
export const RST = {
  protocolError: 1,
  invalidStream: 2,
  refusedStream: 3,
  cancel: 5,
  internalError: 6,
  streamAlreadyClosed: 9,
} as const

/** What a GOAWAY says (2.6.6). */
export const GO_AWAY = { ok: 0, protocolError: 1, internalError: 2 } as const

export type ControlFrame =
  | { type: 'syn-stream'; streamId: number; fin: boolean; unidirectional: boolean; headerBlock: Buffer }
  | { type: 'syn-reply'; streamId: number; fin: boolean; headerBlock: Buffer }
  | { type: 'headers'; streamId: number; fin: boolean; headerBlock: Buffer }
  | { type: 'rst-stream'; streamId: number; status: number }
  | { type: 'ping'; id: number }
  | { type: 'go-away'; lastStreamId: number; status: number }
  /** SETTINGS, WINDOW_UPDATE and what nobody knows: Kubernetes has no windows and settles nothing. */
  | { type: 'ignored'; code: number }

/** A piece of a data frame; `fin` is set on the last piece of the last frame of a stream. */
export interface DataPiece {
  type: 'data'
  streamId: number
  fin: boolean
  payload: Buffer
}

export type Frame = ControlFrame | DataPiece

const CODES = { 'syn-stream': 1, 'syn-reply': 2, 'rst-stream': 3, ping: 6, 'go-away': 7, headers: 8 } as const
const VERSION = 3
const FLAG_FIN = 1
const FLAG_UNIDIRECTIONAL = 2
const HEADER_BYTES = 8

/** The longest control frame that is taken: header blocks are bounded by 64 KiB, and little comes before them. */
export const MAX_CONTROL_BYTES = 65_536 + 16

/** The longest data frame that is made; a receiver holds a whole frame in memory. */
export const MAX_DATA_BYTES = 65_536

const violation = (what: string): RuntimeError => new RuntimeError('invalid-argument', `SPDY: ${what}`)

const controlHeader = (code: number, flags: number, length: number): Buffer => {
  const header = Buffer.allocUnsafe(HEADER_BYTES)
  header.writeUInt16BE(0x8000 | VERSION, 0)
  header.writeUInt16BE(code, 2)
  header.writeUInt32BE(length, 4)
  header.writeUInt8(flags, 4)
  return header
}

const words = (...values: number[]): Buffer => {
  const bytes = Buffer.allocUnsafe(4 * values.length)
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value >>> 0, 4 * index)
  return bytes
}

const bodyOf = (frame: Exclude<ControlFrame, { type: 'ignored' }>): Buffer => {
  switch (frame.type) {
    case 'syn-stream':
      // No associated stream, priority 0, no credential slot.
      return Buffer.concat([words(frame.streamId, 0), Buffer.alloc(2), frame.headerBlock])
    case 'syn-reply':
    case 'headers':
      return Buffer.concat([words(frame.streamId), frame.headerBlock])
    case 'rst-stream':
      return words(frame.streamId, frame.status)
    case 'ping':
      return words(frame.id)
    case 'go-away':
      return words(frame.lastStreamId, frame.status)
  }
}

/** The bytes of one control frame. */
export const encodeControl = (frame: Exclude<ControlFrame, { type: 'ignored' }>): Buffer => {
  const body = bodyOf(frame)
  const fin = 'fin' in frame && frame.fin ? FLAG_FIN : 0
  const unidirectional = frame.type === 'syn-stream' && frame.unidirectional ? FLAG_UNIDIRECTIONAL : 0
  return Buffer.concat([controlHeader(CODES[frame.type], fin | unidirectional, body.length), body])
}

/** The eight bytes that go before `length` bytes of data. */
export const encodeDataHeader = (streamId: number, length: number, fin: boolean): Buffer => {
  const header = words(streamId, length)
  header.writeUInt8(fin ? FLAG_FIN : 0, 4)
  return header
}

const STREAM_ID_MASK = 0x7fffffff

/** The least bytes of each body. */
const LEAST: Record<number, number> = { 1: 10, 2: 4, 3: 8, 6: 4, 7: 8, 8: 4 }

/**
 * The frame of a control frame's first eight bytes and its body.
 * @throws RuntimeError invalid-argument for another version or a body that is too short
 */
const decodeControl = (header: Buffer, body: Buffer): ControlFrame => {
  const version = header.readUInt16BE(0) & 0x7fff
  if (version !== VERSION) throw violation(`version ${version} is not spoken here, only ${VERSION}`)
  const code = header.readUInt16BE(2)
  const flags = header.readUInt8(4)
  const least = LEAST[code]
  if (least === undefined) return { type: 'ignored', code }
  if (body.length < least)
    throw violation(`a frame of type ${code} has ${body.length} bytes, at least ${least} are due`)
  const first = body.readUInt32BE(0)
  const streamId = first & STREAM_ID_MASK
  const fin = (flags & FLAG_FIN) !== 0
  switch (code) {
    case CODES['syn-stream']: {
      const unidirectional = (flags & FLAG_UNIDIRECTIONAL) !== 0
      return { type: 'syn-stream', streamId, fin, unidirectional, headerBlock: body.subarray(10) }
    }
    case CODES['syn-reply']:
      return { type: 'syn-reply', streamId, fin, headerBlock: body.subarray(4) }
    case CODES.headers:
      return { type: 'headers', streamId, fin, headerBlock: body.subarray(4) }
    case CODES['rst-stream']:
      return { type: 'rst-stream', streamId, status: body.readUInt32BE(4) }
    case CODES.ping:
      return { type: 'ping', id: first }
    default:
      return { type: 'go-away', lastStreamId: streamId, status: body.readUInt32BE(4) }
  }
}

/** What is being read: the eight bytes of a header, a control frame's body, or the rest of a data frame. */
type Reading =
  | { what: 'header'; bytes: Buffer; have: number }
  | { what: 'control'; header: Buffer; bytes: Buffer; have: number }
  | { what: 'data'; streamId: number; fin: boolean; left: number }

const freshHeader = (): Reading => ({ what: 'header', bytes: Buffer.allocUnsafe(HEADER_BYTES), have: 0 })

const EMPTY = Buffer.alloc(0)

/** Takes bytes in any pieces and gives frames one at a time. Holds one control frame at most, besides the last piece. */
export class FrameReader {
  #reading: Reading = freshHeader()
  #chunk: Buffer = EMPTY

  /** Bytes that were pushed and not yet looked at. */
  get unread(): number {
    return this.#chunk.length
  }

  /** Only when next() has given everything of the piece before, or the pieces are put together. */
  push(chunk: Buffer): void {
    this.#chunk = this.#chunk.length === 0 ? chunk : Buffer.concat([this.#chunk, chunk])
  }

  /**
   * The next frame, or nothing when more bytes are needed.
   * @throws RuntimeError invalid-argument when the peer does not speak SPDY/3.1; the connection is lost then
   */
  next(): Frame | undefined {
    for (;;) {
      const reading = this.#reading
      if (reading.what === 'data') return this.#dataPiece(reading)
      if (!this.#fill(reading)) return undefined
      if (reading.what === 'control') {
        this.#reading = freshHeader()
        return decodeControl(reading.header, reading.bytes)
      }
      this.#reading = bodyToRead(reading.bytes)
      const begun = this.#reading
      // A frame without data has no piece that could carry its end.
      if (begun.what === 'data' && begun.left === 0) return this.#dataPiece(begun, EMPTY)
    }
  }

  #take(most: number): Buffer {
    const taken = this.#chunk.subarray(0, most)
    this.#chunk = this.#chunk.length > most ? this.#chunk.subarray(most) : EMPTY
    return taken
  }

  /** Whether all bytes are there. */
  #fill(reading: { bytes: Buffer; have: number }): boolean {
    const piece = this.#take(reading.bytes.length - reading.have)
    piece.copy(reading.bytes, reading.have)
    reading.have += piece.length
    return reading.have === reading.bytes.length
  }

  #dataPiece(reading: Extract<Reading, { what: 'data' }>, payload = this.#take(reading.left)): DataPiece | undefined {
    const { streamId, fin } = reading
    if (reading.left > 0 && payload.length === 0) return undefined
    reading.left -= payload.length
    if (reading.left === 0) this.#reading = freshHeader()
    return { type: 'data', streamId, fin: fin && reading.left === 0, payload }
  }
}

const bodyToRead = (header: Buffer): Reading => {
  const first = header.readUInt32BE(0)
  const length = header.readUInt32BE(4) & 0xffffff
  const isControl = first > STREAM_ID_MASK
  if (!isControl) return { what: 'data', streamId: first, fin: (header.readUInt8(4) & FLAG_FIN) !== 0, left: length }
  if (length > MAX_CONTROL_BYTES)
    throw violation(`a control frame of ${length} bytes is too long, ${MAX_CONTROL_BYTES} are the most`)
  return { what: 'control', header, bytes: Buffer.allocUnsafe(length), have: 0 }
}
