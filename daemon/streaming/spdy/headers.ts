/**
 * Header blocks of SPDY/3 (draft 3, 2.6.10): names and values, counted, in one zlib stream per connection and direction.
 *
 * Writing uses stored blocks: a valid stream without any state, in which nothing can be guessed from lengths. Reading keeps
 * what zlib would keep, the last 32 KiB of text, as a value: each block ends at a byte boundary (sync flush), so that one
 * synchronous call with this window as dictionary inflates it. No handle stays open per connection.
 */
import { constants, inflateRawSync } from 'node:zlib'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import { adler32, DICTIONARY } from './dictionary.ts'

/** Names in lower case. Several values of one name are separated by NUL. */
export type Headers = ReadonlyMap<string, string>

/** The most text of one block, inflated. */
export const MAX_HEADER_TEXT_BYTES = 65_536
export const MAX_HEADERS = 64
const WINDOW_BYTES = 32_768

const violation = (what: string, cause?: unknown): RuntimeError =>
  new RuntimeError('invalid-argument', `SPDY headers: ${what}`, { cause })

const word = (value: number): Buffer => {
  const bytes = Buffer.allocUnsafe(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** A block's text, not compressed. */
export const encodeNameValues = (headers: Headers): Buffer => {
  const parts = [word(headers.size)]
  for (const [name, value] of headers) {
    const [nameBytes, valueBytes] = [Buffer.from(name.toLowerCase()), Buffer.from(value)]
    parts.push(word(nameBytes.length), nameBytes, word(valueBytes.length), valueBytes)
  }
  return Buffer.concat(parts)
}

/**
 * The reverse of encodeNameValues.
 * @throws RuntimeError invalid-argument when the counts do not add up, a name is empty or comes twice, or there are too many
 */
export const decodeNameValues = (text: Buffer): Headers => {
  let at = 0
  const count = (): number => {
    if (at + 4 > text.length) throw violation('the block ends within a count')
    at += 4
    return text.readUInt32BE(at - 4)
  }
  const string = (): string => {
    const length = count()
    if (length > text.length - at) throw violation('the block ends within a string')
    at += length
    return text.toString('utf8', at - length, at)
  }
  const headers = new Map<string, string>()
  const pairs = count()
  if (pairs > MAX_HEADERS) throw violation(`${pairs} are too many, ${MAX_HEADERS} are the most`)
  for (let pair = 0; pair < pairs; pair++) {
    const name = string().toLowerCase()
    if (name === '' || headers.has(name)) throw violation('a name is empty or comes twice')
    headers.set(name, string())
  }
  if (at !== text.length) throw violation('the block goes on after its last value')
  return headers
}

/** CMF and FLG (32 KiB window, a preset dictionary) and the dictionary's checksum: how a zlib stream begins (RFC 1950). */
const STREAM_START = Buffer.concat([Buffer.from([0x78, 0xbb]), word(adler32(DICTIONARY))])
/** An empty stored block: what a sync flush ends with. */
const FLUSH = Buffer.from([0, 0, 0, 0xff, 0xff])

/** A block as it goes on the wire; `isFirst` of its direction of the connection. */
export const encodeHeaderBlock = (headers: Headers, isFirst: boolean): Buffer => {
  const text = encodeNameValues(headers)
  if (text.length > 0xffff) throw violation(`${text.length} bytes do not fit into one stored block`)
  const stored = Buffer.alloc(5)
  stored.writeUInt16LE(text.length, 1)
  stored.writeUInt16LE(text.length ^ 0xffff, 3)
  return Buffer.concat([isFirst ? STREAM_START : Buffer.alloc(0), stored, text, FLUSH])
}

/** The text that later blocks may refer to; nothing before the first block. */
export type Window = Buffer | undefined

const checkStart = (block: Buffer): void => {
  if (block.length < STREAM_START.length) throw violation('the first block is too short for a zlib stream')
  const [method, flags] = [block.readUInt8(0), block.readUInt8(1)]
  if ((method & 0x0f) !== 8 || ((method << 8) | flags) % 31 !== 0) throw violation('this is no zlib stream')
  if ((flags & 0x20) === 0 || !block.subarray(2, 6).equals(STREAM_START.subarray(2)))
    throw violation('the zlib stream does not use the dictionary of SPDY/3')
}

/**
 * Inflates one block. Every block of a connection must pass through here in its order, also when its headers do not matter.
 * @throws RuntimeError invalid-argument when it is damaged or longer than MAX_HEADER_TEXT_BYTES; the connection is lost then
 */
export const inflateBlock = (window: Window, block: Buffer): { text: Buffer; window: Buffer } => {
  if (window === undefined) checkStart(block)
  const dictionary = window ?? DICTIONARY
  const deflated = window === undefined ? block.subarray(STREAM_START.length) : block
  let text: Buffer
  try {
    text = inflateRawSync(deflated, {
      dictionary,
      finishFlush: constants.Z_SYNC_FLUSH,
      maxOutputLength: MAX_HEADER_TEXT_BYTES,
    })
  } catch (cause) {
    throw violation(`a block cannot be inflated (${messageOf(cause)})`, cause)
  }
  return { text, window: Buffer.concat([dictionary, text]).subarray(-WINDOW_BYTES) }
}

/** One direction of a connection: the headers of block after block. */
export class HeaderReader {
  #window: Window

  /** @throws RuntimeError invalid-argument; nothing after it can be read */
  decode(block: Buffer): Headers {
    const { text, window } = inflateBlock(this.#window, block)
    this.#window = window
    return decodeNameValues(text)
  }
}
