/** Row E7: frames of HTTP/2 that no client sends, in numbers, on the CRI's socket. Others are answered meanwhile, and nothing stays. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { useWorld } from './harness.ts'
import { isPeer } from './peer.ts'

const MiB = 1024 * 1024
const TYPE = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  ping: 6,
  windowUpdate: 8,
  continuation: 9,
} as const
const END_STREAM = 0x1
const END_HEADERS = 0x4

const frame = (type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer => {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

const number32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** Literals without indexing (RFC 7541, 6.2.2), all shorter than 127 bytes. */
const fields = (entries: Record<string, string>): Buffer =>
  Buffer.concat(
    Object.entries(entries).map(([name, value]) =>
      Buffer.concat([
        Buffer.from([0, name.length]),
        Buffer.from(name),
        Buffer.from([value.length]),
        Buffer.from(value),
      ]),
    ),
  )

const REQUEST = fields({
  ':method': 'POST',
  ':scheme': 'http',
  ':path': '/runtime.v1.RuntimeService/Version',
  ':authority': 'localhost',
  'content-type': 'application/grpc',
  te: 'trailers',
})
const GREETING = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(TYPE.settings, 0, 0)])

const streams = (count: number, one: (stream: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, index) => one(2 * index + 1)))
const times = (count: number, one: Buffer): Buffer => Buffer.concat(Array.from({ length: count }, () => one))

const FLOODS: Record<string, () => Buffer> = {
  'rapid reset': () =>
    streams(50_000, (stream) =>
      Buffer.concat([frame(TYPE.headers, END_HEADERS, stream, REQUEST), frame(TYPE.reset, 0, stream, number32(8))]),
    ),
  'streams that never end': () => streams(50_000, (stream) => frame(TYPE.headers, END_HEADERS, stream, REQUEST)),
  'requests without a message': () =>
    streams(20_000, (stream) => frame(TYPE.headers, END_HEADERS | END_STREAM, stream, REQUEST)),
  'a header block without an end': () =>
    Buffer.concat([
      frame(TYPE.headers, 0, 1, REQUEST),
      times(4_000, frame(TYPE.continuation, 0, 1, times(160, fields({ 'x-more': 'x'.repeat(90) })))),
    ]),
  'empty continuations': () =>
    Buffer.concat([frame(TYPE.headers, 0, 1, REQUEST), times(200_000, frame(TYPE.continuation, 0, 1))]),
  pings: () => times(300_000, frame(TYPE.ping, 0, 0, Buffer.alloc(8))),
  settings: () => times(200_000, frame(TYPE.settings, 0, 0, Buffer.concat([Buffer.from([0, 4]), number32(65_535)]))),
  priorities: () => times(200_000, frame(TYPE.priority, 0, 1, Buffer.concat([number32(3), Buffer.from([1])]))),
  'empty data': () =>
    Buffer.concat([frame(TYPE.headers, END_HEADERS, 1, REQUEST), times(200_000, frame(TYPE.data, 0, 1))]),
  'a window that overflows': () => times(1_000, frame(TYPE.windowUpdate, 0, 0, number32(0x7fffffff))),
  'a frame longer than allowed': () => frame(TYPE.data, 0, 1, Buffer.alloc(4 * MiB)),
  'a message longer than allowed': () =>
    Buffer.concat([
      frame(TYPE.headers, END_HEADERS, 1, REQUEST),
      frame(TYPE.data, 0, 1, Buffer.concat([Buffer.from([0]), number32(0xffffffff)])),
    ]),
  'no HTTP/2': () => Buffer.from(`GET / HTTP/1.1\r\nHost: x\r\n\r\n${'x'.repeat(MiB)}`),
}

/** Sends all without reading a byte, until the other side has taken it or closed; then keeps the connection for a while. */
async function flood(path: string, bytes: Buffer): Promise<Socket> {
  const socket = connect(path)
  socket.on('error', () => {})
  socket.pause()
  await once(socket, 'connect')
  const done = new Promise<void>((resolve) => {
    socket.once('close', () => resolve())
    socket.write(Buffer.concat([GREETING, bytes]), () => resolve())
  })
  // One that reads no more, since nobody takes its answers, is as good.
  await Promise.race([done, sleep(2_000)])
  return socket
}

describe('floods of the CRI socket', { skip: isPeer && 'ours' }, () => {
  const world = useWorld()
  const openFiles = () => readdirSync(`/proc/${world.runtime.pid}/fd`).length
  const residentBytes = () =>
    1024 * Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${world.runtime.pid}/status`, 'utf8'))?.[1])

  it('E7: others are answered meanwhile, and nothing stays', async (t) => {
    await world.cri.runtime.version({ version: '' })
    const [files, memory] = [openFiles(), residentBytes()]
    const path = world.site.path('cricket.sock')
    for (const [name, bytes] of Object.entries(FLOODS)) {
      const socket = await flood(path, bytes())
      assert.equal((await world.cri.runtime.version({ version: '' })).runtimeName, 'cricket', name)
      const grown = Math.round((residentBytes() - memory) / MiB)
      t.diagnostic(`${name}: ${grown} MiB more`)
      assert.ok(grown < 256, `${name}: the daemon holds ${grown} MiB more`)
      socket.destroy()
    }
    const idle = await Promise.all(Array.from({ length: 500 }, () => flood(path, Buffer.alloc(0))))
    assert.equal((await world.cri.runtime.version({ version: '' })).runtimeName, 'cricket')
    for (const socket of idle) socket.destroy()
    const deadline = Date.now() + 60_000
    while (openFiles() > files + 2 && Date.now() < deadline) await sleep(50)
    assert.ok(openFiles() <= files + 2, `${openFiles()} open files, ${files} before`)
    await world.assertNothingLeft()
  })
})
