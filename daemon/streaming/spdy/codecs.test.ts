import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { constants, createDeflate, deflateRawSync } from 'node:zlib'
import fc from 'fast-check'
import { codecProperties } from '../testing/codec-properties.ts'
import { adler32, DICTIONARY } from './dictionary.ts'
import { encodeControl, encodeDataHeader, type Frame, FrameReader, MAX_CONTROL_BYTES } from './frames.ts'
import { decodeNameValues, encodeNameValues, HeaderReader, inflateBlock, MAX_HEADER_TEXT_BYTES } from './headers.ts'

for (const [sentence, property] of Object.entries(codecProperties))
  test(sentence, () => fc.assert(property, { numRuns: 300 }))

const all = (reader: FrameReader): Frame[] => {
  const frames: Frame[] = []
  for (let frame = reader.next(); frame !== undefined; frame = reader.next()) frames.push(frame)
  return frames
}

test('the dictionary is that of SPDY/3', () => {
  assert.equal(DICTIONARY.length, 1_423)
  const sha256 = createHash('sha256').update(DICTIONARY).digest('hex')
  assert.equal(sha256, '51d27341373f923f3cd88e1eb7162aeaa3723d7585ff2399201dc06498407f02')
  assert.equal(adler32(DICTIONARY), 0xe3c6a7c2)
})

test('a frame is laid out as draft 3 says', () => {
  const headerBlock = Buffer.from('abcd', 'hex')
  const syn = encodeControl({ type: 'syn-stream', streamId: 5, fin: true, unidirectional: true, headerBlock })
  assert.equal(syn.toString('hex'), '80030001' + '0300000c' + '00000005' + '00000000' + '0000' + 'abcd')
  assert.equal(
    encodeControl({ type: 'rst-stream', streamId: 3, status: 2 }).toString('hex'),
    '80030003000000080000000300000002',
  )
  assert.equal(
    encodeControl({ type: 'go-away', lastStreamId: 7, status: 1 }).toString('hex'),
    '80030007000000080000000700000001',
  )
  assert.equal(encodeControl({ type: 'ping', id: 9 }).toString('hex'), '800300060000000400000009')
  assert.equal(encodeDataHeader(7, 0x123456, true).toString('hex'), '0000000701123456')
})

test('a data frame of 16 MiB is handed on as it comes, and nothing of it is kept', () => {
  const reader = new FrameReader()
  reader.push(encodeDataHeader(1, 0xffffff, true))
  assert.deepEqual(all(reader), [])
  const chunk = Buffer.alloc(65_536)
  let got = 0
  let ends = 0
  for (let sent = 0; sent < 0xffffff; sent += chunk.length) {
    reader.push(chunk.subarray(0, Math.min(chunk.length, 0xffffff - sent)))
    for (const frame of all(reader)) {
      assert.ok(frame.type === 'data')
      // A view of what was pushed, no copy.
      assert.equal(frame.payload.buffer, chunk.buffer)
      got += frame.payload.length
      if (frame.fin) ends++
    }
    assert.equal(reader.unread, 0)
  }
  assert.deepEqual([got, ends], [0xffffff, 1])
})

test('an empty data frame is given at once, with its end', () => {
  const reader = new FrameReader()
  reader.push(Buffer.concat([encodeDataHeader(1, 0, false), encodeDataHeader(3, 0, true)]))
  const empty = Buffer.alloc(0)
  assert.deepEqual(all(reader), [
    { type: 'data', streamId: 1, fin: false, payload: empty },
    { type: 'data', streamId: 3, fin: true, payload: empty },
  ])
})

test('a control frame that is too long, too short or of another version is refused before its body is taken', () => {
  const frame = (hex: string) => () => {
    const reader = new FrameReader()
    reader.push(Buffer.from(hex, 'hex'))
    return reader.next()
  }
  const tooLong = (MAX_CONTROL_BYTES + 1).toString(16).padStart(6, '0')
  assert.throws(frame(`8003000100${tooLong}`), { kind: 'invalid-argument', message: /too long/ })
  assert.throws(frame('8003000300000004' + '00000001'), { kind: 'invalid-argument', message: /has 4 bytes/ })
  assert.throws(frame('8002000600000004' + '00000001'), { kind: 'invalid-argument', message: /version 2/ })
})

test('SETTINGS with any count, WINDOW_UPDATE and unknown frames are ignored', () => {
  const reader = new FrameReader()
  const settings = Buffer.from('8003000400000004ffffffff', 'hex')
  const windowUpdate = Buffer.from('80030009000000080000000100010000', 'hex')
  reader.push(Buffer.concat([settings, windowUpdate, Buffer.from('800300ff00000000', 'hex')]))
  assert.deepEqual(
    all(reader),
    [4, 9, 255].map((code) => ({ type: 'ignored', code })),
  )
})

/** The first block of a stream, from any text. */
const firstBlock = async (text: Buffer): Promise<Buffer> => {
  const deflate = createDeflate({ dictionary: DICTIONARY, level: 9 })
  const parts: Buffer[] = []
  deflate.on('data', (part: Buffer) => parts.push(part))
  deflate.write(text)
  await new Promise<void>((resolve) => deflate.flush(constants.Z_SYNC_FLUSH, () => resolve()))
  deflate.close()
  return Buffer.concat(parts)
}

test('a header bomb of 64 MiB in 64 KiB is not inflated', async () => {
  const block = await firstBlock(Buffer.alloc(64 * 1_048_576))
  assert.ok(block.length < 65_536 + 8_192)
  const before = process.memoryUsage().rss
  assert.throws(() => inflateBlock(undefined, block), { kind: 'invalid-argument', message: /cannot be inflated/ })
  assert.ok(process.memoryUsage().rss - before < 16 * 1_048_576)
  assert.equal(inflateBlock(undefined, await firstBlock(Buffer.alloc(MAX_HEADER_TEXT_BYTES))).text.length, 65_536)
  await assert.rejects(async () => inflateBlock(undefined, await firstBlock(Buffer.alloc(MAX_HEADER_TEXT_BYTES + 1))))
})

test('counts in a header block that promise more than there is are refused without taking memory for it', () => {
  const block = (...words: number[]) =>
    Buffer.concat(words.map((word) => Buffer.from(word.toString(16).padStart(8, '0'), 'hex')))
  assert.throws(() => decodeNameValues(block(0xffffffff)), { message: /4294967295 are too many/ })
  assert.throws(() => decodeNameValues(block(65)), { message: /65 are too many/ })
  assert.throws(() => decodeNameValues(block(1, 0xffffffff)), { message: /within a string/ })
  assert.throws(() => decodeNameValues(block(1, 0, 0)), { message: /empty/ })
  assert.throws(() => decodeNameValues(block(0, 0)), { message: /goes on/ })
  const twice = Buffer.concat([block(2), ...[1, 2].flatMap(() => [block(1), Buffer.from('a'), block(0)])])
  assert.throws(() => decodeNameValues(twice), { message: /comes twice/ })
})

test('a name such as __proto__ is a name like any other', () => {
  const headers = new Map([
    ['__proto__', 'x'],
    ['constructor', 'y'],
  ])
  assert.deepEqual(decodeNameValues(encodeNameValues(headers)), headers)
})

test('a zlib stream without the dictionary, or with another, is refused', () => {
  const raw = deflateRawSync(encodeNameValues(new Map()), { finishFlush: constants.Z_SYNC_FLUSH })
  for (const start of ['789c', '78bb00000001', '0000', '78bb'])
    assert.throws(() => new HeaderReader().decode(Buffer.concat([Buffer.from(start, 'hex'), raw])), {
      kind: 'invalid-argument',
    })
})
