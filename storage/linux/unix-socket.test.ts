import assert from 'node:assert/strict'
import { once } from 'node:events'
import { closeSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { readSome, tryAgain, writeSome } from './descriptor.ts'
import { acceptUnix, listenUnix, peerUserId } from './unix-socket.ts'

let dir = ''
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cricket-socket-'))
})
afterEach(() => rmSync(dir, { recursive: true }))

test('accepts connections, knows who they are, reads and writes without waiting', async () => {
  const path = join(dir, 's')
  const server = listenUnix(path)
  assert.ok(statSync(path).isSocket())
  assert.equal(acceptUnix(server), undefined)
  const socket = connect(path)
  await once(socket, 'connect')
  const peer = acceptUnix(server)
  assert.ok(peer !== undefined)
  assert.equal(peerUserId(peer), process.getuid?.())
  const bytes = Buffer.alloc(8)
  assert.equal(readSome(peer, bytes), tryAgain)
  assert.equal(writeSome(peer, Buffer.from('hello')), 5)
  assert.equal(String((await once(socket, 'data'))[0]), 'hello')
  socket.destroy()
  await once(socket, 'close')
  assert.equal(readSome(peer, bytes), 0)
  closeSync(peer)
  closeSync(server)
})

test('the name may be longer than an address', async () => {
  const path = join(dir, 'x'.repeat(150), 's')
  mkdirSync(dirname(path))
  const server = listenUnix(path)
  assert.ok(statSync(path).isSocket())
  assert.throws(() => listenUnix(path), { code: 'EADDRINUSE' })
  closeSync(server)
})
