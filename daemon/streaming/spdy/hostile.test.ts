/** What a client may try on a SPDY connection: rules broken, floods, and memory asked for. Real sockets, a fake backend. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SpdyClient } from '../testing/spdy-client.ts'
import { liveBytes, openStage, type Stage, until } from '../testing/stage.ts'
import { encodeControl, encodeDataHeader, MAX_CONTROL_BYTES, RST } from './frames.ts'
import { encodeNameValues, MAX_HEADERS } from './headers.ts'

const MIB = 1_048_576

/** An exec that runs and does nothing, so that only the connection is under test. */
const stalled = async (stage: Stage) => {
  const client = await stage.spdy(stage.exec(['stall'], { stderr: false }))
  return { client, ...(await client.openAll('error', 'stdin', 'stdout')) }
}

/** The connection was ended for a violation, and the process with it. */
const isThrownOut = async (stage: Stage, client: SpdyClient): Promise<void> => {
  await client.closed
  assert.equal(client.goAway, 1)
  await until('nothing runs', () => stage.backend.running === 0)
}

const hex = (text: string): Buffer => Buffer.from(text, 'hex')

const violations: Record<string, (client: SpdyClient) => Promise<unknown> | unknown> = {
  'a control frame of 16 MiB': (client) => client.send(hex('8003000100ffffff')),
  'a control frame one byte too long': (client) =>
    client.send(hex(`8003000800${(MAX_CONTROL_BYTES + 1).toString(16).padStart(6, '0')}`)),
  'another version of SPDY': (client) => client.send(hex('800200060000000400000001')),
  HTTP: (client) => client.send(Buffer.from('\xff\xffGET / HTTP/1.1\r\n\r\n', 'latin1')),
  'a RST_STREAM without a status': (client) => client.send(hex('800300030000000400000001')),
  'a header block that is no deflate': (client) =>
    client.send(encodeControl({ type: 'headers', streamId: 1, fin: false, headerBlock: hex('ffffffffffff') })),
  'a header bomb': async (client) => {
    const headerBlock = await client.block(Buffer.alloc(32 * MIB))
    client.send(encodeControl({ type: 'headers', streamId: 1, fin: false, headerBlock }))
  },
  'too many headers': (client) =>
    client.open(Object.fromEntries(Array.from({ length: MAX_HEADERS + 1 }, (_, index) => [`h${index}`, '']))),
  '100,000 promised headers': async (client) => {
    const headerBlock = await client.block(hex('000186a0'))
    client.send(encodeControl({ type: 'syn-stream', streamId: 99, fin: false, unidirectional: false, headerBlock }))
  },
  'a stream with an even id': (client) => client.open({ streamType: 'x' }, { id: 98 }),
  'a stream id that was used': (client) => client.open({ streamType: 'x' }, { id: 5 }),
  'a stream id that goes back': async (client) => {
    await client.open({ streamType: 'x' }, { id: 101 })
    await client.open({ streamType: 'x' }, { id: 99 })
  },
  'stream 0': (client) => client.open({ streamType: 'x' }, { id: 0 }),
}

for (const [what, send] of Object.entries(violations)) {
  test(`${what} ends the connection with GOAWAY`, async (t) => {
    const stage = await openStage(t)
    const { client } = await stalled(stage)
    await until('it runs', () => stage.backend.running === 1)
    await send(client)
    await isThrownOut(stage, client)
  })
}

test('an oversized frame that trickles in is refused by its length alone', async (t) => {
  const stage = await openStage(t)
  const { client } = await stalled(stage)
  for (const byte of hex('8003000100ffffff')) client.send(Buffer.from([byte]))
  await isThrownOut(stage, client)
})

test('streams that were not asked for, come twice, or are too many are refused, and the session goes on', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.exec(['echo'], { stderr: false }))
  const { error, stdin, stdout } = await client.openAll('error', 'stdin', 'stdout')
  for (const streamType of ['stderr', 'resize', 'stdin', 'nonsense', '__proto__']) {
    const stream = await client.open({ streamType })
    await stream.over
    assert.notEqual(stream.resetBy, undefined, streamType)
  }
  stdin.end('works')
  assert.equal(await stdout.whole(), 'works')
  assert.equal(JSON.parse(await error.whole()).status, 'Success')
})

test('a flood of streams does not keep the daemon from other work', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.forward())
  const frames: Buffer[] = []
  for (let streamId = 1; streamId < 6_000; streamId += 2) {
    const headerBlock = await client.block(encodeNameValues(new Map([['streamtype', 'data']])))
    frames.push(encodeControl({ type: 'syn-stream', streamId, fin: false, unidirectional: false, headerBlock }))
  }
  let turns = 0
  const turning = setInterval(() => turns++, 1)
  t.after(() => clearInterval(turning))
  client.send(Buffer.concat(frames))
  client.ping(5)
  await until('the ping comes back', () => client.control.some(({ type }) => type === 'ping'), 60_000)
  // 3,000 streams in 32s; in pieces of what one read gives (64 KiB) there would be two or three turns.
  assert.ok(turns >= 20, `${turns} turns`)
})

test('a flood of streams, each taken back at once, keeps nothing', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.forward())
  const headerBlock = await client.block(
    encodeNameValues(
      new Map([
        ['streamtype', 'data'],
        ['port', '1'],
        ['requestid', 'a'],
      ]),
    ),
  )
  const again = await client.block(
    encodeNameValues(
      new Map([
        ['streamtype', 'data'],
        ['port', '1'],
        ['requestid', 'a'],
      ]),
    ),
  )
  client.send(encodeControl({ type: 'syn-stream', streamId: 1, fin: false, unidirectional: false, headerBlock }))
  client.send(encodeControl({ type: 'rst-stream', streamId: 1, status: 5 }))
  for (let id = 3; id < 20_000; id += 2) {
    client.send(
      encodeControl({ type: 'syn-stream', streamId: id, fin: false, unidirectional: false, headerBlock: again }),
    )
    client.send(encodeControl({ type: 'rst-stream', streamId: id, status: 5 }))
  }
  client.ping(77)
  await until(
    'the ping comes back',
    () => client.control.some((frame) => frame.type === 'ping' && frame.id === 77),
    60_000,
  )
  assert.equal(stage.backend.sockets.size, 0)
})

test('a client that floods with pings and reads no answer is not read any more, and memory stays', async (t) => {
  const stage = await openStage(t)
  const { client } = await stalled(stage)
  client.socket.pause()
  const pings = Buffer.concat(Array.from({ length: 20_000 }, () => hex('800300060000000400000001')))
  await until('it runs', () => stage.backend.running === 1)
  const before = liveBytes()
  let sent = 0
  // Until the kernel's buffers of both directions are full and nothing more goes: 240 kB each time.
  for (let still = 0; still < 20 && sent < 200 * MIB; ) {
    if (client.socket.writableLength > 0) {
      still++
      await sleep(50)
      continue
    }
    still = 0
    client.send(pings)
    sent += pings.length
  }
  assert.ok(sent < 200 * MIB, 'the server takes pings without end')
  assert.ok(liveBytes() - before < 8 * MIB)
})

test('pings come back, even ones are ours and do not', async (t) => {
  const stage = await openStage(t)
  const { client } = await stalled(stage)
  for (const id of [2, 1, 4, 0xffffffff]) client.ping(id)
  await until('two pings', () => client.control.filter((frame) => frame.type === 'ping').length === 2)
  const ids = client.control.flatMap((frame) => (frame.type === 'ping' ? [frame.id] : []))
  assert.deepEqual(ids, [1, 0xffffffff])
})

test('data for a stream that never was, or after its end, is answered by a reset', async (t) => {
  const stage = await openStage(t)
  const { client, stdin } = await stalled(stage)
  client.send(Buffer.concat([encodeDataHeader(77, 1, false), Buffer.from('x')]))
  client.send(Buffer.concat([encodeDataHeader(0, 1, false), Buffer.from('x')]))
  stdin.end('last')
  stdin.write('more')
  const resets = () =>
    client.control.flatMap((frame) => (frame.type === 'rst-stream' ? [[frame.streamId, frame.status]] : []))
  await until('three resets', () => resets().length === 3)
  assert.deepEqual(resets(), [
    [77, RST.invalidStream],
    [0, RST.invalidStream],
    [stdin.id, RST.streamAlreadyClosed],
  ])
  assert.equal(stage.backend.running, 1)
})

test('SETTINGS, WINDOW_UPDATE, NOOP and unknown frames, 100,000 of them, change nothing', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.exec(['echo'], { stderr: false }))
  const { stdin, stdout } = await client.openAll('error', 'stdin', 'stdout')
  const frames = hex(
    '8003000400000004ffffffff' + '80030009000000080000000500000000' + '8003000500000000' + '8003ffff00000000',
  )
  client.send(Buffer.concat(Array.from({ length: 25_000 }, () => frames)))
  stdin.end('works')
  assert.equal(await stdout.whole(), 'works')
})

test('after GOAWAY the client opens nothing more, and what is open goes on', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.exec(['echo'], { stderr: false }))
  const { stdin, stdout } = await client.openAll('error', 'stdin', 'stdout')
  client.send(encodeControl({ type: 'go-away', lastStreamId: 0, status: 0 }))
  const late = await client.open({ streamType: 'stderr' })
  await late.over
  assert.equal(late.resetBy, RST.refusedStream)
  stdin.end('works')
  assert.equal(await stdout.whole(), 'works')
})

test('a stream that the client half-closes when it opens it has ended', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.exec(['digest'], { stderr: false }))
  await client.open({ streamType: 'error' }, { fin: true })
  const stdout = await client.open({ streamType: 'stdout' }, { fin: true })
  await client.open({ streamType: 'stdin' }, { fin: true })
  assert.match(await stdout.whole(), /^e3b0c44298fc1c14/)
})

test('500 sessions that end at every step leave no socket, timer or session behind', async (t) => {
  const stage = await openStage(t)
  const resources = () => process.getActiveResourcesInfo().filter((name) => /TCPSocket|Timeout/.test(name)).length
  const run = async (round: number) => {
    const command = [['nothing'], ['exit', '3'], ['fail'], ['stall'], ['sizes']][round % 5] ?? []
    const client = await stage.spdy(stage.exec(command, { tty: true }))
    const types = ['error', 'stdin', 'stdout', 'resize'].slice(0, 1 + (round % 4))
    const { resize } = await client.openAll(...types)
    resize?.write('{"Width":80,"Height":24}')
    if (round % 3 === 0) await sleep(1)
    client.close()
    await client.closed
  }
  for (let round = 0; round < 20; round++) await run(round)
  await until('all is quiet', () => stage.backend.running === 0)
  await sleep(500)
  const before = resources()
  for (let round = 0; round < 500; round++) await run(round)
  await until('nothing is left', () => stage.backend.running === 0 && resources() <= before)
})
