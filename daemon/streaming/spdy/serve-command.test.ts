import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { openStage, until } from '../testing/stage.ts'
import { COMMAND_VERSIONS } from './serve-command.ts'

const SUCCESS = { metadata: {}, status: 'Success' }

test('exec over SPDY: output, error output and success, each stream ended and none reset', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.exec(['echo', 'out', 'err'], { stdin: false }))
  const { error, stdout, stderr } = await client.openAll('error', 'stdout', 'stderr')
  assert.equal(await stdout.whole(), 'out')
  assert.equal(await stderr.whole(), 'err')
  assert.deepEqual(JSON.parse(await error.whole()), SUCCESS)
  for (const stream of [error, stdout, stderr])
    assert.ok(stream.replied && stream.ended && stream.resetBy === undefined)
  await until('GOAWAY', () => client.goAway === 0)
})

test('the exit code is told as JSON since version 4, as a sentence before', async (t) => {
  const stage = await openStage(t)
  for (const version of COMMAND_VERSIONS) {
    const client = await stage.spdy(stage.exec(['exit', '137'], { stdin: false, stderr: false }), version)
    const { error } = await client.openAll('error', 'stdout')
    const text = await error.whole()
    const sentence = 'command terminated with non-zero exit code: 137'
    const json = {
      metadata: {},
      status: 'Failure',
      message: sentence,
      reason: 'NonZeroExitCode',
      details: { causes: [{ reason: 'ExitCode', message: '137' }] },
    }
    if (/v[45]/.test(version)) assert.deepEqual(JSON.parse(text), json)
    else assert.equal(text, sentence)
  }
})

test('success before version 4 is an error stream that ends without a word', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.exec(['exit', '0'], { stdin: false, stderr: false }), 'v2.channel.k8s.io')
  const { error } = await client.openAll('error', 'stdout')
  assert.equal(await error.whole(), '')
  assert.ok(error.ended)
})

test('a failure of the backend is a status with reason and code; what is internal stays here', async (t) => {
  const stage = await openStage(t)
  const cases: [string[], object][] = [
    [['nothing'], { message: 'There is no program "nothing"', reason: 'NotFound', code: 404 }],
    [['fail', 'The container has ended'], { message: 'The container has ended', reason: 'Conflict', code: 409 }],
    [['crash'], { message: "Internal error; the runtime's log has it", reason: 'InternalError', code: 500 }],
  ]
  for (const [command, expected] of cases) {
    const client = await stage.spdy(stage.exec(command, { stdin: false, stderr: false }))
    const { error, stdout } = await client.openAll('error', 'stdout')
    assert.deepEqual(JSON.parse(await error.whole()), { metadata: {}, status: 'Failure', ...expected })
    assert.equal(await stdout.whole(), '')
  }
  const faults: string[] = []
  await until('the internal one is logged', () => faults.push(...stage.takeFaults()) === 1)
})

test('stdin ends where the client closes its half, and arrives whole: 20 MB in frames of many sizes', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.exec(['digest'], { stderr: false }))
  const { stdin, stdout } = await client.openAll('error', 'stdin', 'stdout')
  const data = randomBytes(20_000_000)
  for (let at = 0, size = 1; at < data.length; at += size, size = (size * 7) % 1_000_003)
    stdin.write(data.subarray(at, at + size))
  stdin.end()
  assert.equal(await stdout.whole(), createHash('sha256').update(data).digest('hex'))
})

test('a stdin frame of 16 MiB is taken', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.exec(['digest'], { stderr: false }))
  const { stdin, stdout } = await client.openAll('error', 'stdin', 'stdout')
  const data = randomBytes(0xffffff)
  stdin.end(data)
  assert.equal(await stdout.whole(), createHash('sha256').update(data).digest('hex'))
})

test('all output arrives, also when the client begins to read long after the process has ended', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.exec(['flood', '3000000'], { stdin: false, stderr: false }))
  const { error, stdout } = await client.openAll('error', 'stdout')
  client.socket.pause()
  await until('the process has ended, or waits for the client', () => stage.backend.begun === 1)
  client.socket.resume()
  await error.over
  assert.equal(stdout.bytes, 3_000_000)
  assert.equal(JSON.parse(error.text).status, 'Success')
})

test('attach echoes what is typed until the client ends its input', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.attach({ stderr: false }))
  const { error, stdin, stdout } = await client.openAll('error', 'stdin', 'stdout')
  stdin.write('one ')
  await until('the echo', () => stdout.text === 'one ')
  stdin.end('two')
  assert.equal(await stdout.whole(), 'one two')
  assert.deepEqual(JSON.parse(await error.whole()), SUCCESS)
})

test('bytes 0x10 0x11, one by one, are data and detach nobody', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.attach({ stderr: false }))
  const { stdin, stdout } = await client.openAll('error', 'stdin', 'stdout')
  const data = Buffer.from(Array.from({ length: 512 }, (_, index) => (index % 2 === 0 ? 0x10 : 0x11)))
  for (const byte of data) stdin.write(Buffer.from([byte]))
  stdin.end()
  await stdout.over
  assert.deepEqual(Buffer.concat(stdout.chunks), data)
})

test('a terminal has a resize stream since version 3, and no stderr', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.exec(['sizes', '1'], { tty: true }), 'v3.channel.k8s.io')
  const { stdout, resize } = await client.openAll('error', 'stdin', 'stdout', 'resize')
  resize.write('{"Width":1')
  resize.write('20,"Height":40}\n')
  assert.equal(await stdout.whole(), '120x40 ')
  const old = await stage.spdy(stage.exec(['echo', 'x'], { tty: true }), 'v2.channel.k8s.io')
  assert.equal(await (await old.openAll('error', 'stdin', 'stdout')).stdout.whole(), 'x')
})

test('sizes are seen while a quarter of a megabyte of input waits for a process that does not read', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.exec(['sizes', '2'], { tty: true }))
  const { error, stdin, stdout, resize } = await client.openAll('error', 'stdin', 'stdout', 'resize')
  stdin.write(Buffer.alloc(250_000))
  resize.write('{"Width":80,"Height":24}')
  await until('the first size', () => stdout.text === '80x24 ')
  resize.write('{"Width":81,"Height":25}')
  assert.equal(await stdout.whole(), '80x24 81x25 ')
  assert.equal(JSON.parse(await error.whole()).status, 'Success')
})

test('odd sizes are ignored or clamped, and of a thousand at once the last one counts', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.exec(['sizes', '2'], { tty: true }))
  const { stdout, resize } = await client.openAll('error', 'stdin', 'stdout', 'resize')
  const odd = [
    '{"Width":0,"Height":0}',
    '{"Width":-1,"Height":5}',
    '{"Width":"1","Height":"2"}',
    '{"Width":1.5,"Height":2}',
  ]
  const odder = [
    '{"__proto__":{"Width":1,"Height":2}}',
    'null',
    '[]',
    '}}}',
    '{"Width":1e999,"Height":1}',
    '{"Height":1}',
  ]
  resize.write([...odd, ...odder, 'x'.repeat(5_000), '}'].join('\n'))
  resize.write('{"Width":70000,"Height":65536}')
  await until('the clamped size', () => stdout.text === '65535x65535 ')
  const many = Array.from({ length: 1_000 }, (_, index) => JSON.stringify({ Width: index + 1, Height: 7 }))
  resize.write(many.join('\n'))
  assert.equal(await stdout.whole(), '65535x65535 1000x7 ')
})

test('a client that leaves ends the session, at whatever step', async (t) => {
  const stage = await openStage(t)
  for (const opened of [[], ['error'], ['error', 'stdin', 'stdout', 'stderr']]) {
    const client = await stage.spdy(stage.exec(['stall']))
    await client.openAll(...opened)
    if (opened.length === 4) await until('it runs', () => stage.backend.running === 1)
    client.close()
    await until('it was ended', () => stage.lines.filter((line) => line.includes('ended')).length > 0)
    stage.lines.length = 0
    assert.equal(stage.backend.running, 0)
  }
  assert.equal(stage.backend.aborted.length, 1)
  assert.ok(isKind(stage.backend.aborted[0], 'cancelled'))
})

test('a client that dies while its input waits for the process is noticed', { timeout: 120_000 }, async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.exec(['stall']))
  const { stdin } = await client.openAll('error', 'stdin', 'stdout', 'stderr')
  // More than is kept here and in the kernel's buffers: nothing more of this connection is read.
  while (stdin.write(Buffer.alloc(1_000_000))) await until('it runs', () => stage.backend.running === 1)
  client.close()
  await until('it was ended', () => stage.backend.running === 0, 60_000)
})

test('a client that takes back a stream, or closes its half of the connection, has left', async (t) => {
  const stage = await openStage(t)
  const first = await stage.spdy(stage.exec(['stall'], { stderr: false }))
  const { stdout } = await first.openAll('error', 'stdin', 'stdout')
  await until('it runs', () => stage.backend.running === 1)
  stdout.reset()
  await until('it was ended', () => stage.backend.running === 0)
  const second = await stage.spdy(stage.exec(['stall'], { stderr: false }))
  await second.openAll('error', 'stdin', 'stdout')
  await until('it runs', () => stage.backend.running === 1)
  second.socket.end()
  await until('it was ended', () => stage.backend.running === 0)
})

test('a client that does not open its streams in time is turned away', async (t) => {
  const stage = await openStage(t, { config: { creationTimeoutSeconds: 1 } })
  const client = await stage.spdy(stage.exec(['exit']))
  await client.openAll('error', 'stdout')
  await client.closed
  assert.equal(stage.backend.begun, 0)
})

test('a session in which nothing moves is ended, though the client pings; data keeps it alive', async (t) => {
  const stage = await openStage(t, { config: { idleTimeoutSeconds: 2 } })
  const client = await stage.spdy(stage.attach({ stderr: false }))
  const { error, stdin, stdout } = await client.openAll('error', 'stdin', 'stdout')
  const begin = performance.now()
  const pings = setInterval(() => client.ping(1), 100)
  const typing = setInterval(() => stdin.write('.'), 100)
  t.after(() => clearInterval(typing))
  t.after(() => clearInterval(pings))
  await until('it has lived longer than its idle timeout', () => performance.now() - begin > 4_000)
  assert.ok(!error.ended && stdout.bytes > 0)
  clearInterval(typing)
  const status = JSON.parse(await error.whole())
  assert.deepEqual([status.reason, status.message], ['Timeout', 'Nothing moved for 2 seconds'])
  assert.ok(client.control.filter((frame) => frame.type === 'ping').length > 10)
  await client.closed
})

test('a client that reads nothing of a flood is idle', async (t) => {
  const stage = await openStage(t, { config: { idleTimeoutSeconds: 2 } })
  const client = await stage.spdy(stage.exec(['flood'], { stdin: false, stderr: false }))
  await client.openAll('error', 'stdout')
  client.socket.pause()
  await until('it runs', () => stage.backend.running === 1)
  await until('it was ended', () => stage.backend.running === 0)
  assert.ok(isKind(stage.backend.aborted[0], 'deadline-exceeded'))
})
