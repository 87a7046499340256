import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lendChunk, releaseBytes, releaseChunk } from './release-chunk.ts'

const chunkOf = (bytes: number): Buffer => Buffer.from(new ArrayBuffer(bytes))

test('a chunk with memory of its own is given back at once', () => {
  const chunk = chunkOf(65_536)
  releaseChunk(chunk)
  assert.equal(chunk.length, 0)
  releaseChunk(chunk)
})

test('a part of a larger piece is left alone', () => {
  const whole = chunkOf(100)
  releaseChunk(whole.subarray(0, 99))
  assert.equal(whole.length, 100)
  const pooled = Buffer.from('short')
  releaseChunk(pooled)
  assert.equal(pooled.toString(), 'short')
})

test('a lent chunk is given back with its last part, also when a part is all of it', () => {
  const chunk = chunkOf(100)
  lendChunk(chunk)
  releaseChunk(chunk.subarray(8, 50))
  releaseChunk(chunk.subarray(50))
  assert.equal(chunk.length, 100)
  releaseBytes(chunk.buffer, 8)
  assert.equal(chunk.length, 0)
  const other = chunkOf(10)
  lendChunk(other)
  releaseChunk(other.subarray())
  assert.equal(other.length, 0)
})

test('a lent chunk of which a part is never released stays', () => {
  const chunk = chunkOf(100)
  lendChunk(chunk)
  releaseChunk(chunk.subarray(0, 99))
  assert.equal(chunk.length, 100)
})
