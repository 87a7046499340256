/** Lists and masks of processors. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { difference, formatCpuList, formatMask, parseCpuList, parseMask, union } from './cpu-list.ts'

test('lists are read and written as the kernel does', () => {
  assert.deepEqual([...(parseCpuList('7,0-3\n') ?? [])], [7, 0, 1, 2, 3])
  assert.equal(formatCpuList(new Set([7, 0, 2, 1, 3])), '0-3,7')
  assert.equal(formatCpuList(new Set()), '')
  assert.deepEqual(parseCpuList(''), new Set())
  for (const bad of ['x', '1-', '-1', '3-1', '0-9999', '1,,2', '1 2', '0x1', `${'1,'.repeat(3000)}1`]) {
    assert.equal(parseCpuList(bad), undefined, bad)
  }
})

test('masks are read and written as long as the kernel has them', () => {
  assert.deepEqual(parseMask('3\n'), new Set([0, 1]))
  assert.deepEqual(parseMask('00000001,80000000'), new Set([31, 32]))
  for (const bad of ['', 'g', '0x3', '-1']) assert.equal(parseMask(bad), undefined, bad)
  assert.equal(formatMask(new Set([0]), '3'), '1')
  assert.equal(formatMask(new Set([0, 32]), '00000001,80000000'), '00000001,00000001')
  assert.equal(formatMask(new Set(), 'ff'), '00')
  assert.equal(formatMask(new Set([40]), 'ff,ffffffff'), '00000100,00000000')
})

test('sets', () => {
  assert.deepEqual(union(new Set([1]), new Set([1, 2])), new Set([1, 2]))
  assert.deepEqual(difference(new Set([1, 2]), new Set([2])), new Set([1]))
})
