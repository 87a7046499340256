/** The protocol with plugins: frames in frames, calls both ways, and what becomes of those who break it. */
import assert from 'node:assert/strict'
import { duplexPair } from 'node:stream'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { RuntimeError } from '#proto/errors.ts'
import { FakePlugin, FakeRefusal, type Script } from '../testing/fake-plugin.ts'
import { CONNECTION, encodeMessage, MAX_MESSAGE_BYTES, MESSAGE, MESSAGE_TYPE, OUTER } from './frames.ts'
import { Peer, PeerGone, PeerRefused, type Serve } from './peer.ts'
import { FrameSplitter, ProtocolError } from './split-frames.ts'

const LONG_MS = 60_000

interface Seen {
  connection: number
  stream: number
  type: number
  payload: Buffer
}

/** What a reader makes of bytes that come in pieces of these sizes. */
function read(bytes: Buffer, sizes: readonly number[]): { messages: Seen[]; frames: number[] } {
  const messages: Seen[] = []
  const frames: number[] = []
  const inner = new Map<number, FrameSplitter>()
  const outer = new FrameSplitter(OUTER, (header, payload) => {
    const connection = header.readUInt32BE(0)
    frames.push(payload.length)
    const splitter =
      inner.get(connection) ??
      new FrameSplitter(MESSAGE, (head, body) =>
        messages.push({ connection, stream: head.readUInt32BE(4), type: head.readUInt8(8), payload: body }),
      )
    inner.set(connection, splitter)
    splitter.push(payload)
  })
  let rest = bytes
  for (let piece = 0; rest.length > 0; piece++) {
    const size = sizes[piece % sizes.length] ?? 1
    outer.push(rest.subarray(0, size))
    rest = rest.subarray(size)
  }
  return { messages, frames }
}

const message = fc.record({
  connection: fc.constantFrom(1, 2),
  stream: fc.integer({ min: 1, max: 0xffff_ffff }),
  type: fc.constantFrom(1, 2, 3),
  payload: fc.oneof(fc.uint8Array({ maxLength: 50 }), fc.uint8Array({ minLength: 4080, maxLength: 9000 })),
})

describe('frames', () => {
  test('come back as they were sent, however they are cut', () => {
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 5 }),
        fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1 }),
        (sent, sizes) => {
          const bytes = Buffer.concat(
            sent.map(({ connection, stream, type, payload }) => encodeMessage(connection, stream, type, payload)),
          )
          const { messages } = read(bytes, sizes)
          assert.deepEqual(
            messages.map((seen) => ({ ...seen, payload: new Uint8Array(seen.payload) })),
            sent.map((each) => ({ ...each, payload: new Uint8Array(each.payload) })),
          )
        },
      ),
      { numRuns: 60 },
    )
  })

  test('of one message are two at most, the first no larger than the buffer of who reads it', () => {
    for (const size of [0, 1, 4085, 4086, 4087, 10_000, MAX_MESSAGE_BYTES]) {
      const { frames, messages } = read(encodeMessage(1, 1, 1, Buffer.alloc(size)), [1 << 20])
      assert.ok(frames.length <= 2, `${size}: ${frames}`)
      assert.ok((frames[0] ?? 0) <= 4096, `${size}: ${frames}`)
      assert.equal(messages[0]?.payload.length, size)
    }
  })

  test('that claim more than there may be are refused before they come', () => {
    const splitter = new FrameSplitter(OUTER, () => {})
    const header = Buffer.alloc(8)
    header.writeUInt32BE(OUTER.maxPayloadBytes + 1, 4)
    assert.throws(() => splitter.push(header), ProtocolError)
  })
})

function pair(script: Script = {}, serve: Serve = async () => new Uint8Array()) {
  const [ours, theirs] = duplexPair()
  return { peer: new Peer(ours, serve), plugin: new FakePlugin(theirs, script), theirs }
}

describe('a peer', () => {
  test('answers, or says no with a code', async () => {
    const { peer } = pair({
      Yes: (payload) => Buffer.concat([payload, Buffer.from('!')]),
      No: () => {
        throw new FakeRefusal(12, 'never heard of it')
      },
    })
    assert.equal(String(await peer.call('s', 'Yes', Buffer.from('a'), LONG_MS)), 'a!')
    assert.equal(String(await peer.call('s', 'Yes', Buffer.alloc(5000, 'b'), LONG_MS)).length, 5001)
    await assert.rejects(peer.call('s', 'No', Buffer.alloc(0), LONG_MS), (error) => {
      return error instanceof PeerRefused && error.code === 12 && error.message === 'never heard of it'
    })
    assert.equal(peer.isClosed, false)
    peer.close('done')
  })

  test('that does not answer in time is gone, for all who wait', async () => {
    const { peer } = pair({ Hang: () => new Promise(() => {}) })
    const slow = peer.call('s', 'Hang', Buffer.alloc(0), LONG_MS)
    const calls = await Promise.allSettled([slow, peer.call('s', 'Hang', Buffer.alloc(0), 20)])
    for (const call of calls) assert.ok(call.status === 'rejected' && call.reason instanceof PeerGone)
    assert.match(await peer.closed, /did not answer Hang within 20 ms/)
  })

  test('is not asked what does not fit into a message', async () => {
    const { peer } = pair()
    await assert.rejects(peer.call('s', 'Big', Buffer.alloc(MAX_MESSAGE_BYTES), LONG_MS), PeerRefused)
    assert.equal(peer.isClosed, false)
    peer.close('done')
  })

  const garbage: Record<string, Buffer> = {
    noise: Buffer.from('GET / HTTP/1.1\r\nHost: nri\r\n\r\n'),
    'an answer that nobody waits for': encodeMessage(CONNECTION.plugin, 7, MESSAGE_TYPE.response, Buffer.alloc(0)),
    'a request where answers belong': encodeMessage(CONNECTION.plugin, 1, MESSAGE_TYPE.request, Buffer.alloc(0)),
    'an even stream id': encodeMessage(CONNECTION.runtime, 2, MESSAGE_TYPE.request, Buffer.alloc(0)),
    'an unknown type': encodeMessage(CONNECTION.runtime, 1, 9, Buffer.alloc(0)),
    'an envelope that is none': encodeMessage(CONNECTION.runtime, 1, MESSAGE_TYPE.request, Buffer.alloc(40, 0xff)),
  }
  for (const [what, bytes] of Object.entries(garbage)) {
    test(`that sends ${what} is gone`, async () => {
      const { peer, theirs } = pair()
      theirs.write(bytes)
      assert.match(await peer.closed, /does not speak the protocol/)
    })
  }

  test('that sends on a connection that is not known is not the worse for it', async () => {
    const { peer, plugin, theirs } = pair({}, async () => Buffer.from('here'))
    theirs.write(encodeMessage(9, 1, 1, Buffer.from('?')))
    assert.equal(String(await plugin.call('m', Buffer.alloc(0))), 'here')
    peer.close('done')
  })

  test('gets its calls answered, and errors by their kind', async () => {
    const { peer, plugin } = pair({}, async (service, method) => {
      if (method === 'bad') throw new RuntimeError('not-found', 'no such thing')
      return Buffer.from(`${service}/${method}`)
    })
    assert.equal(String(await plugin.call('good', Buffer.alloc(0), 's')), 's/good')
    await assert.rejects(
      plugin.call('bad', Buffer.alloc(0)),
      (error) => error instanceof FakeRefusal && error.code === 5,
    )
    peer.close('done')
  })

  test('that asks for more than sixteen things at once is refused the rest', async () => {
    const gate = Promise.withResolvers<Uint8Array>()
    const { peer, plugin } = pair({}, () => gate.promise)
    const calls = Array.from({ length: 20 }, () => plugin.call('m', Buffer.alloc(0)))
    for (const call of calls.slice(16))
      await assert.rejects(call, (error) => error instanceof FakeRefusal && error.code === 8)
    gate.resolve(new Uint8Array())
    await Promise.all(calls.slice(0, 16))
    peer.close('done')
  })

  test('that goes takes its calls with it', async () => {
    const { peer, theirs } = pair({ Hang: () => new Promise(() => {}) })
    const call = peer.call('s', 'Hang', Buffer.alloc(0), LONG_MS)
    theirs.destroy()
    await assert.rejects(call, PeerGone)
    await assert.rejects(peer.call('s', 'Hang', Buffer.alloc(0), LONG_MS), PeerGone)
  })
})
