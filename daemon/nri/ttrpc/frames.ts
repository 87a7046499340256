/**
 * Two layers of frames on one socket. The outer ones carry several connections: connection id (4 bytes), length (4), payload.
 * Inside each connection lies a stream of ttrpc messages: length (4), stream id (4), type (1), flags (1), payload. All numbers
 * have their highest byte first.
 */
import type { FrameShape } from './split-frames.ts'

export const MESSAGE_HEADER_BYTES = 10
export const MAX_MESSAGE_BYTES = 4 * 1024 * 1024

export const OUTER: FrameShape = {
  what: 'multiplexed frame',
  headerBytes: 8,
  lengthAt: 4,
  maxPayloadBytes: MESSAGE_HEADER_BYTES + MAX_MESSAGE_BYTES,
}

export const MESSAGE: FrameShape = {
  what: 'ttrpc message',
  headerBytes: MESSAGE_HEADER_BYTES,
  lengthAt: 0,
  maxPayloadBytes: MAX_MESSAGE_BYTES,
}

/** On which connection the plugin, and on which one the runtime, is the server. */
export const CONNECTION = { plugin: 1, runtime: 2 } as const

export const MESSAGE_TYPE = { request: 1, response: 2 } as const

/**
 * The readers of the common library read into a buffer of this size until a message's length is known, and lose a connection on
 * a frame that does not fit; nor do they take many small frames at once. So the first frame of a message has this size, and the second the rest.
 */
const FIRST_FRAME_BYTES = 4096

const outerHeader = (connection: number, length: number): Buffer => {
  const header = Buffer.alloc(OUTER.headerBytes)
  header.writeUInt32BE(connection, 0)
  header.writeUInt32BE(length, 4)
  return header
}

/** The bytes of one ttrpc message, in outer frames. The payload must not exceed MAX_MESSAGE_BYTES. */
export const encodeMessage = (connection: number, stream: number, type: number, payload: Uint8Array): Buffer => {
  const header = Buffer.alloc(MESSAGE_HEADER_BYTES)
  header.writeUInt32BE(payload.length, 0)
  header.writeUInt32BE(stream, 4)
  header.writeUInt8(type, 8)
  const message = Buffer.concat([header, payload])
  const first = message.subarray(0, FIRST_FRAME_BYTES)
  const rest = message.subarray(FIRST_FRAME_BYTES)
  const frames = rest.length === 0 ? [first] : [first, rest]
  return Buffer.concat(frames.flatMap((frame) => [outerHeader(connection, frame.length), frame]))
}
