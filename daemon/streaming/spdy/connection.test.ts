import assert from 'node:assert/strict'
import { duplexPair } from 'node:stream'
import { test } from 'node:test'
import { until } from '../testing/stage.ts'
import { SpdyConnection } from './connection.ts'
import { encodeControl, type Frame, FrameReader, RST } from './frames.ts'
import { encodeHeaderBlock } from './headers.ts'
import type { SpdyStream } from './stream.ts'

test('streams beyond the limit are refused; one that ends on both sides makes room', async (t) => {
  const [near, far] = duplexPair()
  const streams: SpdyStream[] = []
  const handlers = { stream: (stream: SpdyStream) => void streams.push(stream), reset() {}, moved() {}, closed() {} }
  const connection = new SpdyConnection(near, Buffer.alloc(0), handlers, { maxStreams: 2, receiveBytes: 1_000 })
  t.after(() => connection.destroy())
  const reader = new FrameReader()
  const frames: Frame[] = []
  far.on('data', (chunk: Buffer) => {
    reader.push(chunk)
    for (let frame = reader.next(); frame !== undefined; frame = reader.next()) frames.push(frame)
  })
  const open = async (streamId: number, fin: boolean): Promise<Frame['type'] | undefined> => {
    const headerBlock = encodeHeaderBlock(new Map(), streamId === 1)
    far.write(encodeControl({ type: 'syn-stream', streamId, fin, unidirectional: false, headerBlock }))
    await until('an answer', () => frames.some((frame) => 'streamId' in frame && frame.streamId === streamId))
    return frames.at(-1)?.type
  }
  assert.equal(await open(1, true), 'syn-reply')
  assert.equal(await open(3, false), 'syn-reply')
  assert.equal(await open(5, false), 'rst-stream')
  assert.deepEqual(frames.at(-1), { type: 'rst-stream', streamId: 5, status: RST.refusedStream })
  streams[0]?.end()
  await until('our end', () => frames.some((frame) => frame.type === 'data' && frame.fin))
  assert.equal(await open(7, false), 'syn-reply')
  assert.equal(streams.length, 3)
})
