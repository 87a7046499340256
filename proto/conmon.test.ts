import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  decodeObject,
  encodeFrame,
  encodeMessage,
  exitRecordFromWire,
  exitRecordToWire,
  FrameReader,
  frameHeaderBytes,
  frameTypes,
  maxPayloadBytes,
} from './conmon.ts'

test('a frame is length, type, payload', () => {
  assert.deepEqual([...encodeFrame(frameTypes.stdout, Buffer.from('ab'))], [0, 0, 0, 2, 17, 97, 98])
  const message = encodeMessage('request', { id: 1, request: 'status' })
  assert.equal(message[4], frameTypes.request)
  assert.deepEqual(decodeObject(message.subarray(frameHeaderBytes)), { id: 1, request: 'status' })
})

test('frames come out as they went in, however the stream is cut', () => {
  const frame = fc.record({
    type: fc.constantFrom(...Object.values(frameTypes)),
    payload: fc.uint8Array({ maxLength: 300 }),
  })
  void fc.assert(
    fc.property(fc.array(frame), fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }), (frames, cuts) => {
      const stream = Buffer.concat(frames.map(({ type, payload }) => encodeFrame(type, payload)))
      const reader = new FrameReader()
      const got: { type: number; payload: number[] }[] = []
      let step = 1
      for (let at = 0, cut = 0; at < stream.length; at += step, cut++) {
        step = cuts[cut % cuts.length] ?? 1
        const piece = Buffer.from(stream.subarray(at, at + step))
        for (const { type, payload } of reader.read(piece)) got.push({ type, payload: [...payload] })
        piece.fill(0)
      }
      assert.deepEqual(
        got,
        frames.map(({ type, payload }) => ({ type, payload: [...payload] })),
      )
    }),
  )
})

test('a frame that is too long is refused by both sides', () => {
  assert.throws(() => encodeFrame(frameTypes.stdout, Buffer.alloc(maxPayloadBytes + 1)), RangeError)
  const header = Buffer.alloc(frameHeaderBytes)
  header.writeUInt32BE(maxPayloadBytes + 1)
  assert.throws(() => new FrameReader().read(header), RangeError)
})

test('what is no JSON object decodes to nothing', () => {
  for (const text of ['', '{', '1', 'null', '"a"', '\xff'])
    assert.equal(decodeObject(Buffer.from(text, 'latin1')), undefined)
})

test('an exit record keeps its 64-bit numbers', () => {
  const record = {
    id: 'c',
    pid: 1,
    startTime: 2n ** 63n,
    bootId: 'b',
    code: 255,
    signal: 0,
    oomKilled: false,
    finishedAtUnixNs: 1_795_337_797_462_218_689n,
    bytesLogged: 1,
    bytesLost: 0,
    unknown: 'nobody saw it',
  }
  assert.deepEqual(exitRecordFromWire(JSON.parse(JSON.stringify(exitRecordToWire(record)))), record)
})
