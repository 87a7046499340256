/** What attached clients can count on, and what they cannot do to a container, its log, its monitor and each other. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { encodeFrame, encodeMessage, frameTypes, maxPayloadBytes } from '#proto/conmon.ts'
import type { AttachStream } from '../attach-client.ts'
import type { MonitorClient } from '../monitor-client.ts'
import { eventually, Monitored, type MonitoredInput, type Rig } from './monitored.ts'

const all = { stdin: true, stdout: true, stderr: true }
const readOnly = { stdin: false, stdout: true, stderr: true }

const ended = (client: MonitorClient) => Promise.race([client.exited, client.lost.then(() => assert.fail('lost'))])

/** What has come so far; put together only when it is looked at, or the reader would be a slow one. */
class Collected {
  readonly #parts = { stdout: [] as Buffer[], stderr: [] as Buffer[] }

  constructor(stream: AttachStream) {
    for (const name of ['stdout', 'stderr'] as const) {
      stream[name].on('data', (bytes: Buffer) => this.#parts[name].push(bytes))
    }
  }

  get stdout(): Buffer {
    return Buffer.concat(this.#parts.stdout)
  }

  get stderr(): Buffer {
    return Buffer.concat(this.#parts.stderr)
  }
}

const collect = (stream: AttachStream): Collected => new Collected(stream)

/** Writes until the monitor takes no more for a while; returns how much it took. */
async function writeUntilStuck(stream: AttachStream, limit: number): Promise<number> {
  const { stdin } = stream
  assert.ok(stdin)
  const block = Buffer.alloc(64 * 1024, 'x')
  let sent = 0
  while (sent < limit) {
    const done = new Promise<boolean>((resolve) => stdin.write(block, () => resolve(true)))
    if (!(await Promise.race([done, delay(1000, false)]))) return sent
    sent += block.length
  }
  return sent
}

export function attachSuite(rig: Rig): void {
  const container = (input: MonitoredInput) => new Monitored(rig, input)

  describe(`attaching (${rig.name})`, () => {
    test('every client gets all output from then on, to the end, and then how it ended', async () => {
      await using box = container({ command: 'echo out; echo err >&2; head -c 300000 /dev/zero; exit 3' })
      const client = await box.launch()
      await client.create()
      const streams = await Promise.all([client.attach(readOnly), client.attach(readOnly)])
      const got = streams.map(collect)
      const onlyErr = await client.attach({ stdin: false, stdout: false, stderr: true })
      const errors = collect(onlyErr)
      await client.start()
      for (const stream of [...streams, onlyErr]) {
        const end = await stream.ended
        assert.ok(end.why === 'exited' && end.record.code === 3)
      }
      for (const { stdout, stderr } of got) {
        assert.equal(stdout.length, 300_004)
        assert.equal(stdout.toString('latin1', 0, 4), 'out\n')
        assert.equal(stderr.toString(), 'err\n')
      }
      assert.deepEqual([errors.stdout.length, errors.stderr.toString()], [0, 'err\n'])
    })

    test('input goes to the container in order, and is one client’s at a time', async () => {
      await using box = container({ command: 'exec cat', stdin: true })
      const client = await box.start()
      const first = await client.attach(all)
      const got = collect(first)
      await assert.rejects(client.attach(all), { kind: 'failed-precondition', message: /in use by another client/ })
      const sent = Buffer.alloc(1_000_003, 'abcdefg')
      first.stdin?.write(sent)
      assert.ok(await eventually(() => got.stdout.length === sent.length))
      assert.ok(got.stdout.equals(sent))
      // Input that could be written asks for nothing any more.
      const before = wakeUps(client.pid)
      await delay(500)
      assert.ok(wakeUps(client.pid) - before < 20, 'the monitor is busy with an input that it has nothing for')
      // Its half close leaves the input to the next.
      first.stdin?.end()
      await delay(200)
      const second = await client.attach(all)
      const then = collect(second)
      second.stdin?.write('more')
      assert.ok(await eventually(() => then.stdout.toString() === 'more'))
      assert.ok(await eventually(() => got.stdout.length === sent.length + 4))
      first.close()
      second.close()
      assert.deepEqual(await first.ended, { why: 'closed' })
      assert.equal((await client.status()).state, 'alive')
    })

    test('with stdinOnce the end of the first client’s input is the end of the container’s', async () => {
      await using box = container({ command: 'wc -c', stdin: true, stdinOnce: true })
      const client = await box.start()
      const watcher = await client.attach(readOnly)
      watcher.close()
      const stream = await client.attach(all)
      const got = collect(stream)
      stream.stdin?.end(Buffer.alloc(700_000))
      assert.equal((await ended(client)).code, 0)
      await stream.ended
      assert.equal(got.stdout.toString(), '700000\n')
    })

    test('with stdinOnce a client that goes away ends the input as well; then there is none to attach to', async () => {
      await using box = container({ command: 'cat; echo end; sleep 100', stdin: true, stdinOnce: true })
      const client = await box.start()
      const stream = await client.attach(all)
      stream.close()
      assert.ok(await eventually(() => box.output('stdout').toString() === 'end\n'))
      await assert.rejects(client.attach(all), {
        kind: 'failed-precondition',
        message: /input of the container is closed/,
      })
      await client.attach(readOnly)
    })

    test('a container without input has none to attach to, one that is not there nothing at all', async () => {
      await using box = container({ command: 'sleep 100' })
      const client = await box.launch()
      await assert.rejects(client.attach(readOnly), { kind: 'failed-precondition' })
      await client.create()
      await assert.rejects(client.attach(all), { kind: 'failed-precondition', message: /no input/ })
    })

    test('a client that does not read is dropped with a message; the container and its log do not wait', async () => {
      const command =
        'i=0; while [ $i -lt 40 ]; do read line; i=$((i+1)); head -c 200000 /dev/zero; done; echo done >&2; sleep 100'
      await using box = container({ command, stdin: true })
      const client = await box.launch()
      await client.create()
      const [stalled, reading] = await Promise.all([client.attach(readOnly), client.attach(all)])
      const got = collect(reading)
      await client.start()
      // On a busy machine the one that reads is a slow reader too, if nobody waits for it.
      for (let block = 1; block <= 40; block++) {
        reading.stdin?.write('next\n')
        assert.ok(await eventually(() => got.stdout.length === block * 200_000), `block ${block} has come`)
      }
      assert.ok(await eventually(() => got.stderr.toString() === 'done\n'), 'the container came to its end')
      assert.equal(got.stdout.length, 8_000_000)
      assert.ok(await eventually(() => box.output('stdout').length === 8_000_000), 'the log is complete')
      const late = collect(stalled)
      assert.match(JSON.stringify(await stalled.ended), /"dropped".*not read fast enough/)
      assert.ok(late.stdout.length > 64 * 1024 && late.stdout.length < 2_000_000, `got ${late.stdout.length}`)
    })

    test('input that is not read keeps its sender waiting, and nobody else', async () => {
      await using box = container({ command: 'while :; do echo tick; sleep 0.1; done', stdin: true })
      const client = await box.start()
      const sender = await client.attach(all)
      const got = collect(sender)
      const memory = residentBytes(client.pid)
      const taken = await writeUntilStuck(sender, 10 * 1024 ** 3)
      assert.ok(taken < 2 * 1024 * 1024, `the monitor took ${taken} bytes`)
      const more = residentBytes(client.pid) - memory
      assert.ok(more < 8 * 1024 * 1024, `the monitor has grown by ${more} bytes`)
      const ticks = got.stdout.length
      assert.ok(await eventually(() => got.stdout.length > ticks), 'its output goes on')
      assert.equal((await client.status()).state, 'alive')
      const other = collect(await client.attach(readOnly))
      assert.ok(await eventually(() => other.stdout.includes('tick')))
      // Nothing of this keeps the monitor busy.
      const before = cpuTicks(client.pid)
      await delay(500)
      assert.ok(cpuTicks(client.pid) - before < 20, 'the monitor is busy with waiting')
      sender.close()
      await delay(100)
      await client.attach(all)
    })

    test('both directions full at once is no deadlock', async () => {
      await using box = container({ command: 'exec cat', stdin: true })
      const client = await box.start()
      const stream = await client.attach(all)
      // Never reads: cat's output goes to the log, and the client is dropped once too much of it waits.
      await writeUntilStuck(stream, 16 * 1024 * 1024)
      collect(stream)
      assert.equal((await stream.ended).why, 'dropped')
      const next = await client.attach(all)
      const got = collect(next)
      next.stdin?.write('alive\n')
      assert.ok(await eventually(() => got.stdout.includes('alive\n')))
    })

    test('a container that closes its input does not block the sender, nor end the monitor', async () => {
      await using box = container({ command: 'exec <&-; sleep 1; echo fine; sleep 100', stdin: true })
      const client = await box.start()
      await delay(200)
      const stream = await client.attach(all)
      const got = collect(stream)
      assert.equal(await writeUntilStuck(stream, 4 * 1024 * 1024), 4 * 1024 * 1024)
      assert.ok(await eventually(() => got.stdout.toString() === 'fine\n'))
    })

    test('a hundred clients come and go in any way, and the container counts on', async () => {
      await using box = container({ command: 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done', stdin: true })
      const client = await box.start()
      const streams = await Promise.all(Array.from({ length: 100 }, () => client.attach(readOnly)))
      for (const [index, stream] of streams.entries()) {
        if (index % 3 === 0) stream.close()
        else if (index % 3 === 1) collect(stream)
      }
      const rest = collect(await client.attach(all))
      assert.ok(await eventually(() => rest.stdout.length > 20))
      for (const stream of streams) stream.close()
      assert.ok(await eventually(() => openDescriptors(client.pid) < 40), 'the monitor lets go of them')
      const numbers = box.output('stdout').toString().split('\n').slice(0, -1)
      assert.deepEqual(
        numbers,
        numbers.map((_, index) => String(index + 1)),
      )
    })

    test('what is not a frame, or not allowed, ends that connection only', async () => {
      await using box = container({ command: 'sleep 100', stdin: true })
      const client = await box.start()
      const hello = encodeMessage('hello', { protocol: 1, cookie: box.options.cookie })
      const tooLong = Buffer.alloc(5)
      tooLong.writeUInt32BE(maxPayloadBytes + 1)
      const bad: Buffer[][] = [
        [Buffer.from('GET / HTTP/1.1\r\n\r\n')],
        [encodeMessage('request', { id: 1, request: 'status' })],
        [hello, tooLong],
        [hello, encodeFrame(frameTypes.request, Buffer.from('not json'))],
        [hello, encodeFrame(frameTypes.request, Buffer.from('{"request":"status"}'))],
        [hello, encodeFrame(frameTypes.stdin, Buffer.from('not mine'))],
      ]
      for (const frames of bad) {
        const socket = await rawConnection(box.dir)
        for (const frame of frames) socket.write(frame)
        await closed(socket)
      }
      // Half a frame, byte by byte, for ever, or nothing at all, is nobody's business but its sender's.
      const slow = await rawConnection(box.dir)
      for (const byte of hello.subarray(0, 8)) slow.write(Buffer.from([byte]))
      assert.equal((await client.status()).state, 'alive')
      slow.destroy()
      // A frame of a kind that comes later is skipped.
      const newer = await rawConnection(box.dir)
      const unknown = Buffer.from(hello)
      unknown[4] = 99
      newer.write(Buffer.concat([hello, unknown, encodeMessage('request', { id: 7, request: 'status' })]))
      let answer = ''
      newer.on('data', (bytes) => {
        answer += bytes
      })
      assert.ok(await eventually(() => answer.includes('"id":7')))
      newer.destroy()
      assert.equal(box.report(), '')
    })

    test('nobody but who knows the cookie is heard, and hundreds of others do not keep the daemon out', async () => {
      await using box = container({ command: 'sleep 100' })
      const client = await box.start()
      const idle = await Promise.all(Array.from({ length: 300 }, () => rawConnection(box.dir)))
      assert.equal((await (await box.connect()).status()).state, 'alive')
      for (const socket of idle) socket.destroy()
      assert.ok(await eventually(() => openDescriptors(client.pid) < 40))
    })
  })
}

/** How often the threads of a process have gone to sleep: one that is busy with nothing does so all the time, however busy the machine. */
function wakeUps(pid: number): number {
  const counts = readdirSync(`/proc/${pid}/task`).map((thread) => {
    const status = readFileSync(`/proc/${pid}/task/${thread}/status`, 'latin1')
    return Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1])
  })
  return counts.reduce((sum, count) => sum + count, 0)
}

/** User and system time of a process, in ticks of 10 ms. */
function cpuTicks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
    .replace(/^.*\) /s, '')
    .split(' ')
  return Number(fields[11]) + Number(fields[12])
}

/** What a process has in memory of its own, in bytes. */
function residentBytes(pid: number): number {
  const kilobytes = /^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]
  return Number(kilobytes) * 1024
}

const openDescriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length

async function rawConnection(dir: string): Promise<Socket> {
  const socket = connect(join(dir, 'conmon.sock'))
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

async function closed(socket: Socket): Promise<void> {
  socket.resume()
  if (!socket.closed) await Promise.race([once(socket, 'close'), delay(5000).then(() => assert.fail('still open'))])
}
