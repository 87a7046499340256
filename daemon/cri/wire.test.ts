import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ContainerStats, FilesystemUsage, PsiData } from '#proto/generated/api.ts'
import { Wire } from './wire.ts'

test('numbers of every size come back as they were', () => {
  const wire = new Wire()
  for (const value of [0, 1, 127, 128, 16_383, 16_384, 2 ** 31, 2 ** 32 + 5, 2 ** 53 - 1]) {
    wire.uint(1, value)
    wire.double(2, value / 8)
    const { Total, Avg10 } = PsiData.decode(wire.take())
    assert.deepEqual([Total, Avg10], [BigInt(value), value / 8])
    wire.wrapped(3, value)
    wire.time(1, 1_700_000_000_123)
    const { usedBytes, timestamp } = FilesystemUsage.decode(wire.take())
    assert.deepEqual([usedBytes?.value, timestamp], [BigInt(value), 1_700_000_000_123_000_000n])
  }
})

test('a value that is 0 is there, one that is not known is not', () => {
  const wire = new Wire()
  wire.wrapped(3, 0)
  wire.wrapped(4, undefined)
  const { usedBytes, inodesUsed } = FilesystemUsage.decode(wire.take())
  assert.deepEqual([usedBytes, inodesUsed], [{ value: 0n }, undefined])
})

test('messages nest, whatever their length, beyond what the first buffer holds', () => {
  const wire = new Wire()
  for (const length of [0, 1, 100, 118, 130, 16_300, 16_400, 70_000, 3_000_000]) {
    const mountpoint = 'x'.repeat(length)
    const outer = wire.begin(4)
    wire.time(1, 5)
    const inner = wire.begin(2)
    wire.text(1, mountpoint)
    wire.end(inner)
    wire.wrapped(3, length)
    wire.end(outer)
    const other = wire.begin(6)
    wire.time(1, 6)
    wire.end(other)
    const { writableLayer, io } = ContainerStats.decode(wire.take())
    assert.equal(writableLayer?.fsId?.mountpoint.length, length)
    assert.deepEqual([writableLayer?.timestamp, writableLayer?.usedBytes?.value], [5_000_000n, BigInt(length)])
    assert.equal(io?.timestamp, 6_000_000n)
  }
})
