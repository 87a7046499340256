import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdir, mkdtemp, rename, rm, stat, unlink, writeFile } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Log } from '#proto/log.ts'
import { openSocket } from './cri-socket.ts'

const greet = (socket: Socket): void => {
  socket.on('error', () => {})
  socket.write('hello')
}

/** What the one who listens says; undefined when nobody does. */
const greeting = (path: string): Promise<string | undefined> =>
  new Promise((resolve) => {
    const socket = connect(path)
    socket.once('data', (bytes) => {
      socket.destroy()
      resolve(String(bytes))
    })
    socket.once('error', () => resolve(undefined))
    socket.once('close', () => resolve(undefined))
  })

async function untilGreeted(path: string): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    if ((await greeting(path)) === 'hello') return
    await sleep(25)
  }
  assert.fail(`nobody listens on ${path} again`)
}

async function open(t: TestContext) {
  const dir = await mkdtemp(join(tmpdir(), 'cricket-socket-'))
  const path = join(dir, 'run', 'cricket.sock')
  const errors: string[] = []
  const nothing = () => {}
  const log: Log = {
    debug: nothing,
    info: nothing,
    warn: nothing,
    error: (text) => errors.push(text),
    child: () => log,
  }
  await mkdir(join(dir, 'run'))
  const socket = await openSocket(path, greet, log)
  t.after(async () => {
    await socket.close()
    await rm(dir, { recursive: true })
  })
  return { dir, path, socket, errors }
}

test('the file is for root and its group, and goes at the end', async (t) => {
  const { path, socket } = await open(t)
  assert.equal((await stat(path)).mode & 0o777, 0o660)
  assert.equal(await greeting(path), 'hello')
  await socket.close()
  await assert.rejects(stat(path), { code: 'ENOENT' })
})

test('C10: a file that is taken away comes back, with its directory; who is connected stays', async (t) => {
  const { dir, path } = await open(t)
  const early = connect(path)
  t.after(() => early.destroy())
  await once(early, 'data')
  let ended = false
  early.once('close', () => {
    ended = true
  })
  await unlink(path)
  await untilGreeted(path)
  await rm(join(dir, 'run'), { recursive: true })
  await untilGreeted(path)
  assert.equal((await stat(path)).mode & 0o777, 0o660)
  assert.equal(ended, false)
})

test('C10: a file that is no socket, or that somebody answers on, stays, until it goes', async (t) => {
  const { path, errors } = await open(t)
  await unlink(path)
  const other = createServer((socket) => void socket.on('error', () => {}).write('other')).listen(path)
  t.after(() => other.close())
  await once(other, 'listening')
  await sleep(2500)
  assert.equal(await greeting(path), 'other')
  assert.equal(errors.length, 1, 'told once')
  other.close()
  await untilGreeted(path)

  await unlink(path)
  await writeFile(path, 'precious')
  await sleep(2500)
  assert.equal((await stat(path)).isFile(), true)
  await rename(path, `${path}.kept`)
  await untilGreeted(path)
})

test('C10: a socket that a dead process has put there is replaced', async (t) => {
  const { path } = await open(t)
  const dead = createServer().listen(`${path}.dead`)
  await once(dead, 'listening')
  await rename(`${path}.dead`, path)
  dead.close()
  await untilGreeted(path)
})
