import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  writeSync,
} from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { listenConsoleSocket } from './console-socket.ts'
import { setOnlcr, setWindowSize, windowSize } from './pty.ts'
import { addr, keep, sys } from './sys.ts'
import { scratch } from './testing/scratch.ts'

/** Opens a new terminal; returns its master and the path of its slave. */
const openTerminal = (): { master: number; slave: string } => {
  const master = openSync('/dev/ptmx', constants.O_RDWR | constants.O_NOCTTY)
  const number = Buffer.alloc(4)
  sys('ioctl', master, 0x40045431, number)
  sys('ioctl', master, 0x80045430, number)
  return { master, slave: `/dev/pts/${number.readUInt32LE(0)}` }
}

/** What runc does: connect, send one message with the descriptors, hang up. */
const send = (path: string, fds: number[]): void => {
  const address = Buffer.alloc(110)
  address.writeUInt16LE(1, 0)
  address.write(path, 2)
  const text = Buffer.from('/dev/pts/0')
  const control = Buffer.alloc(16 + 8 * Math.ceil(fds.length / 2))
  control.writeBigUInt64LE(BigInt(16 + 4 * fds.length), 0)
  control.writeInt32LE(1, 8)
  control.writeInt32LE(1, 12)
  for (const [index, fd] of fds.entries()) control.writeInt32LE(fd, 16 + 4 * index)
  const vector = Buffer.alloc(16)
  vector.writeBigUInt64LE(addr(text), 0)
  vector.writeBigUInt64LE(BigInt(text.length), 8)
  const header = Buffer.alloc(56)
  header.writeBigUInt64LE(addr(vector), 16)
  header.writeBigUInt64LE(1n, 24)
  header.writeBigUInt64LE(fds.length === 0 ? 0n : addr(control), 32)
  header.writeBigUInt64LE(fds.length === 0 ? 0n : BigInt(control.length), 40)
  const socket = sys('socket', 1, 1 | 0x80000, 0)
  sys('connect', socket, address, address.length)
  sys('sendmsg', socket, header, 0)
  keep(text, control, vector)
  closeSync(socket)
}

const openFds = (): number => readdirSync('/proc/self/fd').length

test('the master arrives, close-on-exec, and is a working terminal', async (t) => {
  const path = join(scratch(t), 'console.sock')
  const before = openFds()
  const socket = listenConsoleSocket(path)
  assert.equal(statSync(path).mode & 0o777, 0o600)
  const receiving = socket.receive(10_000)
  const { master, slave } = openTerminal()
  send(path, [master])
  const fd = await receiving
  closeSync(master)
  assert.match(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'), /flags:\s*02\d{6}\n/)

  setWindowSize(fd, { width: 132, height: 43 })
  assert.equal(execFileSync('/usr/bin/stty', ['-F', slave, 'size'], { encoding: 'utf8' }), '43 132\n')
  assert.deepEqual(windowSize(fd), { width: 132, height: 43 })
  setWindowSize(fd, { width: 1e9, height: -1 })
  assert.deepEqual(windowSize(fd), { width: 65535, height: 0 })

  const slaveFd = openSync(slave, constants.O_RDWR | constants.O_NOCTTY)
  const shows = (text: string): string => {
    writeSync(slaveFd, text)
    const bytes = Buffer.alloc(64)
    return bytes.toString('utf8', 0, readSync(fd, bytes))
  }
  assert.equal(shows('a\n'), 'a\r\n')
  setOnlcr(fd, false)
  assert.equal(shows('b\n'), 'b\n')
  setOnlcr(fd, true)
  assert.equal(shows('c\n'), 'c\r\n')
  closeSync(slaveFd)
  closeSync(fd)
  socket.close()
  socket.close()
  assert.equal(existsSync(path), false)
  assert.equal(openFds(), before)
})

test('of several descriptors only the first is taken, none leaks', async (t) => {
  const path = join(scratch(t), 'console.sock')
  const before = openFds()
  const socket = listenConsoleSocket(path)
  const { master } = openTerminal()
  send(path, [master, master])
  const fd = await socket.receive()
  assert.deepEqual(windowSize(fd), { width: 0, height: 0 })
  for (const each of [fd, master]) closeSync(each)
  socket.close()
  assert.equal(openFds(), before)
})

test('what is not a terminal is refused, and the next one is taken', async (t) => {
  const path = join(scratch(t), 'console.sock')
  const before = openFds()
  const socket = listenConsoleSocket(path)
  const file = openSync('/dev/null', 'r')
  send(path, [file])
  await assert.rejects(socket.receive(), { code: 'ENOTTY', path })
  send(path, [])
  await assert.rejects(socket.receive(), { code: 'EBADMSG', path })
  const { master, slave } = openTerminal()
  const slaveFd = openSync(slave, constants.O_RDWR | constants.O_NOCTTY)
  send(path, [slaveFd])
  await assert.rejects(socket.receive(), { code: 'ENOTTY', path })
  send(path, [master])
  const fd = await socket.receive()
  for (const each of [fd, master, slaveFd, file]) closeSync(each)
  socket.close()
  assert.equal(openFds(), before)
})

test('waiting ends at the deadline, on abort and on close, and leaves no descriptor', async (t) => {
  const path = join(scratch(t), 'console.sock')
  const before = openFds()
  const socket = listenConsoleSocket(path)
  await assert.rejects(socket.receive(20), { kind: 'deadline-exceeded' })
  const aborting = new AbortController()
  const aborted = socket.receive(undefined, aborting.signal)
  setTimeout(() => aborting.abort(), 20)
  await assert.rejects(aborted, { kind: 'cancelled' })
  // A client that connects and says nothing.
  const silent = connect(path)
  const hungUp = once(silent, 'close')
  await assert.rejects(socket.receive(50), { kind: 'deadline-exceeded' })
  silent.destroy()
  const closed = socket.receive()
  await assert.rejects(socket.receive(), { code: 'EBADF' })
  socket.close()
  await assert.rejects(closed, { kind: 'cancelled' })
  await assert.rejects(socket.receive(), { code: 'EBADF' })
  await hungUp
  assert.equal(openFds(), before)
})

test('paths that are too long or taken', (t) => {
  const directory = scratch(t)
  const before = openFds()
  assert.throws(() => listenConsoleSocket(join(directory, 'x'.repeat(108))), { code: 'ENAMETOOLONG' })
  const socket = listenConsoleSocket(join(directory, 'a'))
  assert.throws(() => listenConsoleSocket(join(directory, 'a')), { code: 'EADDRINUSE', path: join(directory, 'a') })
  socket.close()
  assert.equal(openFds(), before)
})
