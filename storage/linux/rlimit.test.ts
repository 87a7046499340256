import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { openFilesLimit, setOpenFilesLimit } from './rlimit.ts'

test('a lowered limit is what children have, and can be raised again', () => {
  const before = openFilesLimit()
  assert.ok(before.soft <= before.hard)
  try {
    setOpenFilesLimit({ ...before, soft: 333n })
    assert.equal(execFileSync('/bin/sh', ['-c', 'ulimit -Sn'], { encoding: 'utf8' }), '333\n')
  } finally {
    setOpenFilesLimit(before)
  }
  assert.deepEqual(openFilesLimit(), before)
})

test('more than the hard limit is refused', () => {
  const { hard } = openFilesLimit()
  assert.throws(() => setOpenFilesLimit({ soft: hard + 1n, hard }), { code: 'EINVAL' })
})
