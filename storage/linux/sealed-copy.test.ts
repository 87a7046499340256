import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { copyFileSync, openSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { SealedCopy } from './sealed-copy.ts'
import { scratch } from './testing/scratch.ts'

test('the copy runs, stays what it was, and follows a program that is replaced', (t) => {
  const dir = scratch(t)
  const program = join(dir, 'program')
  copyFileSync('/bin/echo', program)
  const copy = new SealedCopy(program)
  t.after(() => copy.close())
  const path = copy.path()
  assert.notEqual(path, program)
  assert.equal(execFileSync(path, ['one']).toString(), 'one\n')
  assert.equal(copy.path(), path)
  assert.throws(() => writeFileSync(openSync(path, 'r+'), 'x'), { code: 'EPERM' })
  copyFileSync('/bin/cat', join(dir, 'next'))
  renameSync(join(dir, 'next'), program)
  assert.equal(execFileSync(copy.path(), { input: 'two' }).toString(), 'two')
})

test('what is no binary, or not there, is its own path', (t) => {
  const script = join(scratch(t), 'script')
  writeFileSync(script, '#!/bin/sh\n', { mode: 0o755 })
  for (const path of [script, '/no/such/program']) assert.equal(new SealedCopy(path).path(), path)
})
