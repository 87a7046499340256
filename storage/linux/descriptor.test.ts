import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { duplicate } from './descriptor.ts'
import { makePipe } from './pipes.ts'

test('a duplicate is the same open file under another number', () => {
  const { read, write } = makePipe()
  const second = duplicate(write)
  closeSync(write)
  writeSync(second, 'through')
  closeSync(second)
  const bytes = Buffer.alloc(16)
  assert.equal(bytes.toString('latin1', 0, readSync(read, bytes)), 'through')
  assert.equal(readSync(read, bytes), 0)
  closeSync(read)
})

test('closes what was inherited and nothing else', () => {
  const script = `import { fstatSync } from 'node:fs'
    const { closeInherited } = await import(${JSON.stringify(join(import.meta.dirname, 'descriptor.ts'))})
    closeInherited([7])
    const open = (fd) => { try { fstatSync(fd); return true } catch { return false } }
    console.log(JSON.stringify([6, 7, 8].map(open)))`
  const nothing = openSync('/dev/null', 'r')
  const stdio: (number | 'ignore' | 'pipe')[] = ['ignore', 'pipe', 'pipe', 'ignore', 'ignore', 'ignore']
  const out = execFileSync(
    '/bin/sh',
    [
      '-c',
      'exec 6</dev/null 7</dev/null 8</dev/null "$@"',
      'sh',
      process.execPath,
      '--input-type=module',
      '-e',
      script,
    ],
    {
      stdio,
      encoding: 'utf8',
    },
  )
  // Node makes what it inherits close-on-exec itself: then no child gets it, which is what counts.
  assert.equal(JSON.parse(out)[1], true)
  fstatSync(nothing)
  closeSync(nothing)
})
