import assert from 'node:assert/strict'
import { closeSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { rawSys, sys } from '#linux/sys.ts'
import type { Log } from '#proto/log.ts'
import { connectSupervisor } from './notify.ts'

const warnings: string[] = []
const log: Log = {
  debug: () => {},
  info: () => {},
  warn: (text) => void warnings.push(text),
  error: () => {},
  child: () => log,
}

/** systemd's end of the socket. */
let fd: number
let dir: string
let path: string

beforeEach(() => {
  warnings.length = 0
  dir = mkdtempSync(join(tmpdir(), 'notify-'))
  path = join(dir, 's')
  fd = listen(Buffer.from(path))
})
afterEach(() => {
  closeSync(fd)
  rmSync(dir, { recursive: true })
})

function listen(name: Buffer): number {
  const socket = sys('socket', 1, 2 | 0o4000, 0)
  const address = Buffer.concat([Buffer.from([1, 0]), name])
  sys('bind', socket, address, address.length)
  return socket
}

function received(socket = fd): string[] {
  const buffer = Buffer.alloc(256)
  const found = []
  for (;;) {
    const length = rawSys('read', socket, buffer, buffer.length)
    if (length < 0) return found
    found.push(buffer.subarray(0, length).toString())
  }
}

test('says when the daemon is ready and when it stops', () => {
  const env = { NOTIFY_SOCKET: path, OTHER: 'stays' }
  const supervisor = connectSupervisor(env, log)
  assert.deepEqual(env, { OTHER: 'stays' }, 'children must not speak in our name')
  supervisor.ready()
  assert.deepEqual(received(), ['READY=1'])
  supervisor.stopping()
  assert.deepEqual(received(), ['STOPPING=1'])
})

test('feeds the watchdog between ready and stopping', async () => {
  const supervisor = connectSupervisor({ NOTIFY_SOCKET: path, WATCHDOG_USEC: '20000' }, log)
  await sleep(50)
  assert.deepEqual(received(), [], 'nothing before it is ready')
  supervisor.ready()
  assert.deepEqual(received(), ['READY=1'])
  let fed = received()
  for (; fed.length === 0; fed = received()) await sleep(5)
  assert.ok(fed.every((state) => state === 'WATCHDOG=1'))
  supervisor.stopping()
  await sleep(50)
  assert.deepEqual(received(), ['STOPPING=1'])
})

test('leaves the watchdog of another process alone', async () => {
  const supervisor = connectSupervisor({ NOTIFY_SOCKET: path, WATCHDOG_USEC: '10000', WATCHDOG_PID: '1' }, log)
  supervisor.ready()
  await sleep(60)
  assert.deepEqual(received(), ['READY=1'])
})

test('finds an abstract socket', () => {
  const socket = listen(Buffer.from(`\0cricket-test-${process.pid}`))
  try {
    connectSupervisor({ NOTIFY_SOCKET: `@cricket-test-${process.pid}` }, log).ready()
    assert.deepEqual(received(socket), ['READY=1'])
  } finally {
    closeSync(socket)
  }
})

test('goes on without a service manager, or with one that is gone', () => {
  connectSupervisor({}, log).ready()
  assert.deepEqual(warnings, [])
  connectSupervisor({ NOTIFY_SOCKET: join(dir, 'nobody') }, log).ready()
  assert.deepEqual(warnings, ['Cannot tell the service manager'])
})
