import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { closeSync, fstatSync, readFileSync, readSync, writeSync } from 'node:fs'
import { test } from 'node:test'
import { makePipe, setAllCloexec, setCloexec, setNonblock } from './pipes.ts'

const flagsOf = (fd: number): number =>
  Number.parseInt(/flags:\s*([0-7]+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '', 8)

test('a pipe is a pipe, close-on-exec and blocking at both ends', () => {
  const { read, write } = makePipe()
  for (const fd of [read, write]) {
    assert.ok(fstatSync(fd).isFIFO())
    assert.equal(flagsOf(fd) & 0o2000000, 0o2000000)
    assert.equal(flagsOf(fd) & 0o4000, 0)
  }
  writeSync(write, 'through')
  closeSync(write)
  const bytes = Buffer.alloc(16)
  assert.equal(bytes.toString('utf8', 0, readSync(read, bytes)), 'through')
  assert.equal(readSync(read, bytes), 0)
  closeSync(read)
})

test('close-on-exec and blocking can be changed', () => {
  const { read, write } = makePipe()
  setNonblock(read, true)
  assert.throws(() => readSync(read, Buffer.alloc(1)), { code: 'EAGAIN' })
  setNonblock(read, false)
  assert.equal(flagsOf(read) & 0o4000, 0)
  setCloexec(write, false)
  assert.equal(flagsOf(write) & 0o2000000, 0)
  setCloexec(write, true)
  assert.equal(flagsOf(write) & 0o2000000, 0o2000000)
  closeSync(read)
  closeSync(write)
  assert.throws(() => setCloexec(write, true), { code: 'EBADF', syscall: 'fcntl' })
})

test('all at once', () => {
  const { read, write } = makePipe()
  for (const fd of [read, write]) setCloexec(fd, false)
  setAllCloexec()
  for (const fd of [read, write]) {
    assert.equal(flagsOf(fd) & 0o2000000, 0o2000000)
    closeSync(fd)
  }
})

test('a program can open /dev/stdout again when it is such a pipe', () => {
  const { read, write } = makePipe()
  const { status } = spawnSync('/bin/sh', ['-c', 'echo reopened > /dev/stdout'], { stdio: ['ignore', write, 'ignore'] })
  closeSync(write)
  const bytes = Buffer.alloc(16)
  assert.equal(bytes.toString('utf8', 0, readSync(read, bytes)), 'reopened\n')
  assert.equal(status, 0)
  closeSync(read)
})
