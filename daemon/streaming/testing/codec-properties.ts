/** What holds for every input of the SPDY codecs, checked for as many inputs as asked: a few in each run, many in the long one. */
import assert from 'node:assert/strict'
import { constants, deflateRawSync } from 'node:zlib'
import fc from 'fast-check'
import { RuntimeError } from '#proto/errors.ts'
import { DICTIONARY } from '../spdy/dictionary.ts'
import { type ControlFrame, encodeControl, encodeDataHeader, type Frame, FrameReader } from '../spdy/frames.ts'
import {
  decodeNameValues,
  encodeHeaderBlock,
  encodeNameValues,
  type Headers,
  inflateBlock,
  MAX_HEADER_TEXT_BYTES,
} from '../spdy/headers.ts'
import { SizeReader } from '../terminal-sizes.ts'

const streamId = fc.integer({ min: 1, max: 0x7fffffff })
const word = fc.integer({ min: 0, max: 0xffffffff })
const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array))

type Sent =
  | Exclude<ControlFrame, { type: 'ignored' }>
  | { type: 'data'; streamId: number; fin: boolean; payload: Buffer }

const frame: fc.Arbitrary<Sent> = fc.oneof(
  fc.record({
    type: fc.constant('syn-stream' as const),
    streamId,
    fin: fc.boolean(),
    unidirectional: fc.boolean(),
    headerBlock: bytes(40),
  }),
  fc.record({
    type: fc.constantFrom('syn-reply' as const, 'headers' as const),
    streamId,
    fin: fc.boolean(),
    headerBlock: bytes(40),
  }),
  fc.record({ type: fc.constant('rst-stream' as const), streamId, status: word }),
  fc.record({ type: fc.constant('ping' as const), id: word }),
  fc.record({ type: fc.constant('go-away' as const), lastStreamId: streamId, status: word }),
  fc.record({ type: fc.constant('data' as const), streamId, fin: fc.boolean(), payload: bytes(60) }),
)

const encode = (sent: Sent): Buffer =>
  sent.type === 'data'
    ? Buffer.concat([encodeDataHeader(sent.streamId, sent.payload.length, sent.fin), sent.payload])
    : encodeControl(sent)

/** All frames of a text that arrives in pieces of these lengths, over and over. */
const read = (text: Buffer, lengths: readonly number[]): Frame[] => {
  const reader = new FrameReader()
  const frames: Frame[] = []
  for (let at = 0, turn = 0; at < text.length; turn++) {
    const length = lengths[turn % lengths.length] ?? text.length
    reader.push(text.subarray(at, at + length))
    at += length
    for (let next = reader.next(); next !== undefined; next = reader.next()) frames.push(next)
  }
  return frames
}

/** The pieces of each data frame put together again. A frame ends with `fin`, or where another begins. */
const joined = (frames: readonly Frame[]): Map<string, string> => {
  const texts = new Map<string, string>()
  let run = 0
  for (const each of frames) {
    if (each.type !== 'data') {
      texts.set(`${run++}`, JSON.stringify(each))
      continue
    }
    const key = `${run} data ${each.streamId}`
    texts.set(key, (texts.get(key) ?? '') + each.payload.toString('hex') + (each.fin ? '.' : ''))
  }
  return texts
}

const pieces = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 8 })

const framesSurvive = fc.property(fc.array(frame, { maxLength: 12 }), pieces, (sent, lengths) => {
  assert.deepEqual(joined(read(Buffer.concat(sent.map(encode)), lengths)), joined(sent))
})

/** Noise that now and then looks like a frame. */
const noise = fc
  .array(
    fc.oneof(
      bytes(30),
      frame.map(encode),
      fc.constantFrom('80030001', '8003000700', '8002').map((hex) => Buffer.from(hex, 'hex')),
    ),
    {
      maxLength: 10,
    },
  )
  .map((parts) => Buffer.concat(parts))

const refusesOnlyByRuntimeError = <T>(work: () => T): T | undefined => {
  try {
    return work()
  } catch (error) {
    assert.ok(error instanceof RuntimeError && error.kind === 'invalid-argument', String(error))
    return undefined
  }
}

const noiseIsBorne = fc.property(noise, pieces, (text, lengths) => {
  const frames = refusesOnlyByRuntimeError(() => read(text, lengths))
  const payloads = (frames ?? []).map((each) => (each.type === 'data' ? each.payload.length : 0))
  assert.ok(payloads.reduce((sum, length) => sum + length, 0) <= text.length)
})

const headers: fc.Arbitrary<Headers> = fc
  .uniqueArray(
    fc.tuple(
      fc.string({ minLength: 1, maxLength: 12 }).map((name) => name.toLowerCase()),
      fc.string({ maxLength: 60 }),
    ),
    {
      maxLength: 8,
      selector: ([name]) => name.toLowerCase(),
    },
  )
  .map((pairs) => new Map(pairs))

/** As zlib writers do it: each block deflated with all that went before in the window, to a byte boundary. */
const deflated = (blocks: readonly Headers[]): Buffer[] => {
  let before = DICTIONARY
  return blocks.map((block, index) => {
    const text = encodeNameValues(block)
    const raw = deflateRawSync(text, { dictionary: before.subarray(-32_768), finishFlush: constants.Z_SYNC_FLUSH })
    before = Buffer.concat([before, text])
    return index === 0 ? Buffer.concat([Buffer.from('78bbe3c6a7c2', 'hex'), raw]) : raw
  })
}

const headersSurvive = fc.property(fc.array(headers, { maxLength: 6 }), fc.boolean(), (sent, isStored) => {
  const blocks = isStored ? sent.map((each, index) => encodeHeaderBlock(each, index === 0)) : deflated(sent)
  let window: Buffer | undefined
  const got = blocks.map((block) => {
    const inflated = inflateBlock(window, block)
    window = inflated.window
    return decodeNameValues(inflated.text)
  })
  assert.deepEqual(got, sent)
})

const damagedHeadersAreBorne = fc.property(
  headers,
  fc.array(fc.tuple(fc.nat(), fc.nat(255))),
  fc.nat(),
  (sent, damages, cut) => {
    const block = Buffer.concat(deflated([sent]))
    for (const [at, value] of damages) block.writeUInt8(value, at % block.length)
    const inflated = refusesOnlyByRuntimeError(() =>
      inflateBlock(undefined, block.subarray(0, cut % (block.length + 1))),
    )
    if (inflated === undefined) return
    assert.ok(inflated.text.length <= MAX_HEADER_TEXT_BYTES && inflated.window.length <= 32_768)
    refusesOnlyByRuntimeError(() => decodeNameValues(inflated.text))
  },
)

const headerTextIsBorne = fc.property(
  fc.oneof(
    bytes(80),
    fc.array(word).map((words) => Buffer.from(Uint32Array.from(words).buffer)),
  ),
  (text) => {
    const got = refusesOnlyByRuntimeError(() => decodeNameValues(text))
    for (const [name] of got ?? []) assert.notEqual(name, '')
  },
)

const sizesAreBorne = fc.property(
  fc.array(
    fc.oneof(
      bytes(20),
      fc.json().map((text) => Buffer.from(text)),
      fc.constant(Buffer.from('{"Width":80,"Height":24}')),
    ),
  ),
  (chunks) => {
    const reader = new SizeReader()
    for (const { width, height } of chunks.flatMap((chunk) => reader.push(chunk))) {
      for (const cells of [width, height]) assert.ok(Number.isInteger(cells) && cells >= 1 && cells <= 65_535)
    }
  },
)

/** By the sentence that each one proves. */
export const codecProperties: Record<string, fc.IRawProperty<unknown>> = {
  'frames survive being sent in any pieces': framesSurvive,
  'noise instead of frames is refused or ignored, and gives no more bytes than it has': noiseIsBorne,
  'headers survive block after block, stored or deflated': headersSurvive,
  'damaged header blocks are refused or bounded': damagedHeadersAreBorne,
  'any text of a header block is refused or gives headers': headerTextIsBorne,
  'whatever comes on a resize channel gives sizes of 1 to 65535 or nothing': sizesAreBorne,
}
