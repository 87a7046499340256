import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ClientStream } from '../testing/spdy-client.ts'
import { listen, openStage, until } from '../testing/stage.ts'
import { halfOf } from './serve-port-forward.ts'

const echo = (socket: Socket) => void socket.pipe(socket)

test('a forwarded connection carries bytes both ways, and each half closes on its own', async (t) => {
  const port = await listen(t, (socket) => {
    // Speaks only when the client has said all.
    const got: Buffer[] = []
    socket.on('data', (chunk: Buffer) => got.push(chunk))
    socket.on('end', () => socket.end(`you said ${Buffer.concat(got)}`))
  })
  const stage = await openStage(t)
  const client = await stage.spdy(stage.forward())
  const { data, error } = await client.forward(port, '0')
  data.end('hello')
  assert.equal(await data.whole(), 'you said hello')
  assert.equal(await error.whole(), '')
  assert.ok(data.ended && error.ended && data.resetBy === undefined)
})

test('the pod may end first: what the client still sends is delivered', async (t) => {
  const got: Buffer[] = []
  const port = await listen(t, (socket) => {
    socket.end('bye')
    socket.on('data', (chunk: Buffer) => got.push(chunk))
  })
  const stage = await openStage(t)
  const client = await stage.spdy(stage.forward())
  const { data, error } = await client.forward(port, '0')
  assert.equal(await data.whole(), 'bye')
  data.write('still ')
  data.end('here')
  await error.over
  assert.equal(Buffer.concat(got).toString(), 'still here')
})

test('an empty connection, of which both halves close at once, is forwarded too', async (t) => {
  let ends = 0
  const port = await listen(t, (socket) => {
    socket.on('end', () => {
      ends++
      socket.end()
    })
    socket.resume()
  })
  const stage = await openStage(t)
  const client = await stage.spdy(stage.forward())
  const { data, error } = await client.forward(port, '0')
  data.end()
  await Promise.all([data.over, error.over])
  assert.equal(ends, 1)
})

test('clients without request ids open error and data in a row', async (t) => {
  const port = await listen(t, echo)
  const stage = await openStage(t)
  const client = await stage.spdy(stage.forward())
  const pairs: { text: string; data: ClientStream }[] = []
  for (const text of ['a', 'b', 'c']) pairs.push({ text, ...(await client.forward(port)) })
  for (const { data, text } of pairs) data.end(text)
  for (const { data, text } of pairs) assert.equal(await data.whole(), text)
})

test('a port that refuses concerns its own connection alone', async (t) => {
  const port = await listen(t, echo)
  const stage = await openStage(t)
  const client = await stage.spdy(stage.forward())
  const good = await client.forward(port, 'good')
  good.data.write('before ')
  const bad = await client.forward(1, 'bad')
  assert.equal(
    await bad.error.whole(),
    `error forwarding port 1 to pod ${'5a'.repeat(32)}: Cannot connect to port 1 of the pod: connection refused`,
  )
  await bad.data.over
  good.data.end('after')
  assert.equal(await good.data.whole(), 'before after')
})

test('a connection that the pod resets is reset, without a sentence that would make kubectl give up the others', async (t) => {
  const port = await listen(t, (socket) => {
    socket.once('data', () => socket.resetAndDestroy())
  })
  const stage = await openStage(t)
  const client = await stage.spdy(stage.forward())
  const { data, error } = await client.forward(port, '0')
  data.write('x')
  await data.over
  assert.notEqual(data.resetBy, undefined)
  assert.equal(await error.whole(), '')
  const next = await client.forward(await listen(t, echo), '1')
  next.data.end('y')
  assert.equal(await next.data.whole(), 'y')
})

test('a client that resets a connection, or leaves, closes its sockets in the pod', async (t) => {
  const port = await listen(t, (socket) => socket.resume())
  const stage = await openStage(t)
  const client = await stage.spdy(stage.forward())
  const first = await client.forward(port, '0')
  await client.forward(port, '1')
  await until('both are connected', () => stage.backend.sockets.size === 2)
  first.data.reset()
  await until('one is closed', () => stage.backend.sockets.size === 1)
  client.close()
  await until('all are closed', () => stage.backend.sockets.size === 0)
})

test('300 connections in one session, all at once, carry what they should', async (t) => {
  const port = await listen(t, echo)
  const stage = await openStage(t)
  const client = await stage.spdy(stage.forward())
  const one = async (index: number) => {
    const sent = randomBytes(20_000)
    const { data, error } = await client.forward(port, String(index))
    data.write(sent.subarray(0, 5_000))
    data.end(sent.subarray(5_000))
    await Promise.all([data.over, error.over])
    assert.deepEqual(Buffer.concat(data.chunks), sent)
  }
  await Promise.all(Array.from({ length: 300 }, (_, index) => one(index)))
  await until('all sockets are closed', () => stage.backend.sockets.size === 0)
})

test('20 MB each way with a slow reader arrive whole', async (t) => {
  const hash = createHash('sha256')
  let got = 0
  const port = await listen(t, (socket) => {
    socket.on('data', (chunk) => {
      hash.update(chunk)
      got += chunk.length
      socket.pause()
      setImmediate(() => socket.resume())
    })
    socket.on('end', () => socket.end(Buffer.alloc(20_000_000, 'b')))
  })
  const stage = await openStage(t)
  const client = await stage.spdy(stage.forward())
  const { data } = await client.forward(port, '0')
  data.keep = false
  for (let piece = 0; piece < 20; piece++) data.write(Buffer.alloc(1_000_000, 'a'))
  data.end()
  await data.over
  assert.deepEqual([got, data.bytes], [20_000_000, 20_000_000])
  assert.equal(hash.digest('hex'), createHash('sha256').update(Buffer.alloc(20_000_000, 'a')).digest('hex'))
})

test('only ports from 1 to 65535, a known type and a pair of its own are taken', async (t) => {
  const stream = (headers: Record<string, string>) => halfOf({ id: 7, headers: new Map(Object.entries(headers)) })
  for (const port of ['0', '-1', '65536', '', '1e3', ' 80', '0x50', '99999999999', '80.0', '127.0.0.1:80'])
    assert.equal(stream({ streamtype: 'data', port }), 'the port must be a number from 1 to 65535')
  assert.equal(stream({ streamtype: 'stdin', port: '80' }), 'the stream type must be "data" or "error"')
  assert.deepEqual(stream({ streamtype: 'data', port: '65535' }), { key: 'stream 5', type: 'data', port: 65_535 })
  const stage = await openStage(t)
  const client = await stage.spdy(stage.forward())
  for (const headers of [{ streamType: 'data' }, { streamType: 'data', port: '70000' }, { port: '80' }]) {
    const refused = await client.open(headers)
    await refused.over
    assert.notEqual(refused.resetBy, undefined)
  }
  const first = await client.open({ streamType: 'data', port: '80', requestID: 'x' })
  const again = await client.open({ streamType: 'data', port: '80', requestID: 'x' })
  await again.over
  assert.ok(again.resetBy !== undefined && first.resetBy === undefined)
  assert.equal(stage.backend.sockets.size, 0)
})

test('a stream whose other half does not come is given up, with a sentence if it can carry one', async (t) => {
  const stage = await openStage(t, { config: { creationTimeoutSeconds: 1 } })
  const client = await stage.spdy(stage.forward())
  const error = await client.open({ streamType: 'error', port: '80', requestID: 'a' })
  const data = await client.open({ streamType: 'data', port: '80', requestID: 'b' })
  assert.match(await error.whole(), /error forwarding port 80: its data stream was not opened in time/)
  await data.over
  assert.notEqual(data.resetBy, undefined)
})

test('more connections than one session may have are refused; the others go on', async (t) => {
  const port = await listen(t, echo)
  const stage = await openStage(t)
  const client = await stage.spdy(stage.forward())
  const pairs: { data: ClientStream; error: ClientStream }[] = []
  for (let index = 0; index < 510; index++) pairs.push(await client.forward(port, String(index)))
  await until('ten are refused', () => pairs.filter(({ error }) => error.resetBy !== undefined).length === 10)
  pairs[0]?.data.end('still here')
  assert.equal(await pairs[0]?.data.whole(), 'still here')
})

test('halves that wait for their other one count as connections', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.forward())
  const halves: ClientStream[] = []
  for (let index = 0; index < 501; index++)
    halves.push(await client.open({ streamType: 'error', port: '80', requestID: String(index) }))
  await until('the last one is refused', () => halves[500]?.resetBy !== undefined)
  assert.equal(halves.filter((half) => half.resetBy !== undefined).length, 1)
})

test('a session without connections ends when it is idle, one with traffic does not', async (t) => {
  const port = await listen(t, echo)
  const stage = await openStage(t, { config: { idleTimeoutSeconds: 2 } })
  const idle = await stage.spdy(stage.forward())
  const busy = await stage.spdy(stage.forward())
  const { data } = await busy.forward(port, '0')
  const begin = performance.now()
  const pings = setInterval(() => idle.ping(3), 100)
  t.after(() => clearInterval(pings))
  while (performance.now() - begin < 4_000) {
    data.write('.')
    await sleep(100)
  }
  assert.ok(idle.socket.destroyed && !busy.socket.destroyed)
})
