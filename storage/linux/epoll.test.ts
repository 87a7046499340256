import assert from 'node:assert/strict'
import { closeSync, writeSync } from 'node:fs'
import { test } from 'node:test'
import { makeEvent, readSome, signalEvent, tryAgain, writeSome } from './descriptor.ts'
import { Epoll, peerClosed, readable, writable } from './epoll.ts'
import { makePipe, setNonblock } from './pipes.ts'

test('tells what is ready, as long as it is', () => {
  const epoll = new Epoll()
  const pipe = makePipe()
  try {
    epoll.add(pipe.read, readable)
    assert.equal(epoll.wait(0), 0)
    writeSync(pipe.write, 'x')
    for (const _ of [1, 2]) {
      assert.equal(epoll.wait(0), 1)
      assert.deepEqual([epoll.fdAt(0), epoll.eventsAt(0)], [pipe.read, readable])
    }
    epoll.change(pipe.read, 0)
    assert.equal(epoll.wait(0), 0)
    epoll.change(pipe.read, readable)
    assert.equal(epoll.wait(0), 1)
    epoll.remove(pipe.read)
    assert.equal(epoll.wait(0), 0)
  } finally {
    epoll.close()
    closeSync(pipe.read)
    closeSync(pipe.write)
  }
})

test('tells of several at once, and of the rest at the next wait', () => {
  const epoll = new Epoll(2)
  const events = [makeEvent(), makeEvent(), makeEvent()]
  try {
    for (const fd of events) {
      epoll.add(fd, readable)
      signalEvent(fd)
    }
    const seen = new Set<number>()
    for (let round = 0; round < 2; round++) {
      const count = epoll.wait(0)
      for (let index = 0; index < count; index++) {
        const fd = epoll.fdAt(index)
        seen.add(fd)
        assert.equal(readSome(fd, Buffer.alloc(8)), 8)
      }
    }
    assert.deepEqual([...seen].sort(), events.sort())
  } finally {
    epoll.close()
    for (const fd of events) closeSync(fd)
  }
})

test('a wait on a pool thread is woken', async () => {
  const epoll = new Epoll()
  const event = makeEvent()
  try {
    epoll.add(event, readable)
    const waiting = epoll.waitAsync()
    setImmediate(() => signalEvent(event))
    assert.equal(await waiting, 1)
    assert.equal(epoll.fdAt(0), event)
  } finally {
    epoll.close()
    closeSync(event)
  }
})

test('the end of a pipe is an event, asked for or not', () => {
  const epoll = new Epoll()
  const pipe = makePipe()
  try {
    epoll.add(pipe.read, peerClosed)
    closeSync(pipe.write)
    assert.equal(epoll.wait(0), 1)
    assert.notEqual(epoll.eventsAt(0), 0)
  } finally {
    epoll.close()
    closeSync(pipe.read)
  }
})

test('a full pipe is not writable, and says "try again" without an exception', () => {
  const epoll = new Epoll()
  const pipe = makePipe()
  try {
    setNonblock(pipe.read, true)
    setNonblock(pipe.write, true)
    assert.equal(readSome(pipe.read, Buffer.alloc(8)), tryAgain)
    const block = Buffer.alloc(65536)
    while (writeSome(pipe.write, block) > 0);
    assert.equal(writeSome(pipe.write, block), tryAgain)
    epoll.add(pipe.write, writable)
    assert.equal(epoll.wait(0), 0)
    while (readSome(pipe.read, block) > 0);
    assert.equal(epoll.wait(0), 1)
    closeSync(pipe.read)
    assert.equal(writeSome(pipe.write, block), -32)
  } finally {
    epoll.close()
    closeSync(pipe.write)
  }
})
