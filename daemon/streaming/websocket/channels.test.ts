import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import { ask } from '../testing/spdy-client.ts'
import { listen, liveBytes, openStage, until } from '../testing/stage.ts'
import { dialWebSocket } from '../testing/websocket-client.ts'

const SUCCESS = { metadata: {}, status: 'Success' }
const v5 = { subprotocols: ['v5.channel.k8s.io'] }

test('exec over WebSocket: greeting, output, status, and a close in order', async (t) => {
  const stage = await openStage(t)
  const client = await dialWebSocket(stage.exec(['echo', 'out', 'err'], { stdin: false }), v5)
  assert.equal(await client.closed, 1000)
  assert.equal(client.channel(1).toString(), 'out')
  assert.equal(client.channel(2).toString(), 'err')
  assert.deepEqual(JSON.parse(client.channel(3).toString()), SUCCESS)
  // Output, error output, status, and before them an empty one.
  assert.equal(client.messages, 4)
})

test('every subprotocol of exec: binary and base64, status as JSON since version 4', async (t) => {
  const stage = await openStage(t)
  for (const name of [
    'v5.channel.k8s.io',
    'v4.channel.k8s.io',
    'v4.base64.channel.k8s.io',
    'channel.k8s.io',
    'base64.channel.k8s.io',
    '',
  ]) {
    const base64 = name.includes('base64')
    const url = stage.exec(['exit', '3'], { stdin: false })
    const client = await dialWebSocket(url, { subprotocols: name === '' ? [] : ['unknown.k8s.io', name], base64 })
    assert.equal(client.socket.protocol, name)
    assert.equal(await client.closed, 1000)
    const text = client.channel(3).toString()
    if (/^v[45]/.test(name)) assert.equal(JSON.parse(text).details.causes[0].message, '3')
    else assert.equal(text, 'command terminated with non-zero exit code: 3')
  }
})

test('stdin ends by channel 255 in version 5, and is whole: 20 MB', async (t) => {
  const stage = await openStage(t)
  const client = await dialWebSocket(stage.exec(['digest'], { stderr: false }), v5)
  const data = randomBytes(20_000_000)
  for (let at = 0; at < data.length; at += 500_000) client.send(0, data.subarray(at, at + 500_000))
  client.send(255, Buffer.from([0]))
  client.send(0, 'after the end')
  client.send(255, Buffer.from([0]))
  assert.equal(await client.closed, 1000)
  assert.equal(client.channel(1).toString(), createHash('sha256').update(data).digest('hex'))
})

test('base64 channels carry every byte both ways', async (t) => {
  const stage = await openStage(t)
  const client = await dialWebSocket(stage.attach({ stderr: false }), {
    subprotocols: ['v4.base64.channel.k8s.io'],
    base64: true,
  })
  const data = Buffer.from(Array.from({ length: 256 }, (_, index) => index))
  client.send(0, data)
  await until('the echo', () => client.channel(1).length === 256)
  assert.deepEqual(client.channel(1), data)
  client.socket.close()
  await until('it was ended', () => stage.backend.running === 0)
})

test('sizes come on channel 4; what was not asked for is ignored', async (t) => {
  const stage = await openStage(t)
  const client = await dialWebSocket(stage.exec(['sizes', '1'], { tty: true, stdin: false }), v5)
  client.send(0, 'no stdin here')
  client.send(1, 'nor is stdout an input')
  client.send(4, '{"Width":100,"Height":50}')
  assert.equal(await client.closed, 1000)
  assert.equal(client.channel(1).toString(), '100x50 ')
})

test('20 MB of output arrive, also when the client begins to read after the end', async (t) => {
  const stage = await openStage(t)
  const client = await dialWebSocket(stage.exec(['flood', '20000000'], { stdin: false, stderr: false }), v5)
  client.socket.pause()
  await until('it runs', () => stage.backend.begun === 1)
  client.socket.resume()
  assert.equal(await client.closed, 1000)
  assert.equal(client.channel(1).length, 20_000_000)
  assert.deepEqual(JSON.parse(client.channel(3).toString()), SUCCESS)
})

test('a client that dies while its input waits for the process is noticed', { timeout: 120_000 }, async (t) => {
  const stage = await openStage(t)
  const client = await dialWebSocket(stage.exec(['stall']), v5)
  let pongs = 0
  client.socket.on('pong', () => pongs++)
  for (let piece = 0; piece < 40; piece++) client.send(0, Buffer.alloc(500_000))
  await until('signs of life without asking', () => pongs > 0)
  assert.equal(stage.backend.running, 1)
  client.socket.terminate()
  await until('it was ended', () => stage.backend.running === 0, 60_000)
})

test('an idle session is ended though the client pings', async (t) => {
  const stage = await openStage(t, { config: { idleTimeoutSeconds: 2 } })
  const client = await dialWebSocket(stage.attach(), v5)
  const pings = setInterval(() => client.socket.ping(), 100)
  t.after(() => clearInterval(pings))
  await client.closed
  assert.equal(JSON.parse(client.channel(3).toString()).message, 'Nothing moved for 2 seconds')
})

const masked = (first: number, payload: Buffer): Buffer => {
  const head = Buffer.from([first, 0x80 | Math.min(payload.length, 125), 0, 0, 0, 0])
  return Buffer.concat([head, payload])
}

/** Bytes on an open WebSocket, and the code with which the server closes it. */
const violations: Record<string, [number, Buffer]> = {
  'a channel that does not exist': [1002, masked(0x82, Buffer.from([9, 1]))],
  'a close message for a channel that does not exist': [1002, masked(0x82, Buffer.from([255, 77]))],
  'a close message for two channels': [1002, masked(0x82, Buffer.from([255, 0, 1]))],
  'a frame without a mask': [1002, Buffer.from([0x82, 2, 0, 1])],
  'a fragmented ping': [1002, masked(0x09, Buffer.from('x'))],
  'compression that was not agreed on': [1002, masked(0xc2, Buffer.from([0, 1]))],
  'text that is no UTF-8': [1007, masked(0x81, Buffer.from([0, 0xff, 0xfe]))],
  'a message over 1 MiB': [1009, Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0])],
  'a message of 2^63 bytes': [
    1009,
    Buffer.from([0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
  ],
}

const handshake = (subprotocol: string): string[] => [
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  'Sec-WebSocket-Extensions: permessage-deflate',
  `Sec-WebSocket-Protocol: ${subprotocol}`,
]

/** The code of the first close frame among the server's frames, which are short here. */
const closeCode = (bytes: Buffer): number | undefined => {
  for (let at = 0; at + 4 <= bytes.length; at += 2 + (bytes[at + 1] ?? 0))
    if (bytes[at] === 0x88) return bytes.readUInt16BE(at + 2)
  return undefined
}

for (const [what, [code, bytes]] of Object.entries(violations)) {
  test(`${what} closes the connection by ${code}, and ends the process`, async (t) => {
    const stage = await openStage(t)
    const { socket, rest, status, headers } = await ask(stage.exec(['stall']), handshake('v5.channel.k8s.io'), {
      method: 'GET',
    })
    t.after(() => socket.destroy())
    assert.equal(status, 101)
    assert.equal(headers.get('sec-websocket-extensions'), undefined)
    await until('it runs', () => stage.backend.running === 1)
    let got = rest
    socket.on('data', (chunk: Buffer) => {
      got = Buffer.concat([got, chunk])
    })
    socket.resume()
    socket.write(bytes)
    await until('a close frame', () => closeCode(got) !== undefined)
    assert.equal(closeCode(got), code)
    await until('it was ended', () => stage.backend.running === 0)
  })
}

test('a ping flood that nobody reads the answers of ends the session; the answers are not kept', async (t) => {
  const stage = await openStage(t)
  const { socket } = await ask(stage.exec(['stall']), handshake('v5.channel.k8s.io'), { method: 'GET' })
  t.after(() => socket.destroy())
  await until('it runs', () => stage.backend.running === 1)
  const pings = Buffer.concat(Array.from({ length: 10_000 }, () => masked(0x89, Buffer.alloc(125))))
  const before = liveBytes()
  // Paused, the client reads nothing: 40 MB of answers are more than the kernel's buffers hold.
  for (let sent = 0; sent < 30 && !socket.closed; sent++) {
    if (!socket.write(pings)) await Promise.race([once(socket, 'drain'), once(socket, 'close')]).catch(() => {})
  }
  await until('it was ended', () => stage.backend.running === 0, 5_000)
  assert.ok(liveBytes() - before < 16_000_000)
})

test('port-forward by channels: each begins with its port, the low byte first', async (t) => {
  const port = await listen(t, (socket: Socket) => {
    socket.on('data', (chunk) => socket.end(`you said ${chunk}`))
  })
  const stage = await openStage(t)
  const client = await dialWebSocket(stage.forward([port, 1]), { subprotocols: ['v4.channel.k8s.io'] })
  const prefix = (number: number) => Buffer.from([number & 0xff, number >> 8])
  client.send(0, 'hello')
  assert.equal(await client.closed, 1000)
  assert.deepEqual(client.channel(0), Buffer.concat([prefix(port), Buffer.from('you said hello')]))
  assert.deepEqual(client.channel(1), prefix(port))
  assert.deepEqual(client.channel(2), prefix(1))
  assert.match(client.channel(3).toString('latin1', 2), /error forwarding port 1 .*connection refused/)
})

test('the ports of channels may be in the URL; without usable ones the client is told why', async (t) => {
  const port = await listen(t, (socket: Socket) => void socket.pipe(socket))
  const stage = await openStage(t)
  const client = await dialWebSocket(`${stage.forward()}?port=${port}`, {
    subprotocols: ['v4.base64.channel.k8s.io'],
    base64: true,
  })
  client.send(0, 'x')
  await until('the echo', () => client.channel(0).length === 3)
  client.socket.terminate()
  await until('its socket is closed', () => stage.backend.sockets.size === 0)
  for (const query of ['', '?port=0', '?port=80,99999', '?port=x']) {
    const refused = await dialWebSocket(`${stage.forward()}${query}`, { subprotocols: ['v4.channel.k8s.io'] })
    assert.equal(await refused.closed, 1008)
  }
})
