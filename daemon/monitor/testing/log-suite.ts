/** The log when the disk is full, when it is rotated at full speed, when its name is tampered with, and when nobody wants it any more. */
import assert from 'node:assert/strict'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { linux } from '#linux/linux.ts'
import { monotonicMs } from '#linux/realtime.ts'
import { encodeMessage, FrameReader, frameTypes } from '#proto/conmon.ts'
import { readExitRecord } from '../exit-record.ts'
import type { MonitorClient } from '../monitor-client.ts'
import { eventually, Monitored, type MonitoredInput, parseLog, type Rig } from './monitored.ts'

const ended = (client: MonitorClient) => Promise.race([client.exited, client.lost.then(() => assert.fail('lost'))])

/** Lets the container go on: it waits for a byte of input. */
async function tell(client: MonitorClient, text: string): Promise<void> {
  const stream = await client.attach({ stdin: true, stdout: false, stderr: false })
  await new Promise<void>((resolve) => stream.stdin?.end(text, () => resolve()))
  stream.close()
}

export function logSuite(rig: Rig, { rotations }: { rotations: number }): void {
  const container = (input: MonitoredInput) => new Monitored(rig, input)

  /** A container whose log has a small file system of its own. */
  async function onSmallDisk(input: MonitoredInput, body: (box: Monitored, dir: string) => Promise<void>) {
    const plain = container(input)
    const dir = join(plain.dir, 'logs')
    mkdirSync(dir)
    linux.mountTmpfs(dir, { sizeBytes: 1024 * 1024 })
    const logPath = join(dir, '0.log')
    await using box = Object.assign(plain, { logPath, options: { ...plain.options, logPath } })
    try {
      await body(box, dir)
    } finally {
      linux.unmount(dir, { detach: true })
    }
  }

  describe(`log (${rig.name})`, () => {
    test('a full disk costs what does not fit and nothing else: one marker, whole records, true counters', async () => {
      const command = 'read x; seq 1 300000; echo full >&2; read x; echo after; read x; echo later; exit 4'
      await onSmallDisk({ command, stdin: true }, async (box, dir) => {
        const client = await box.launch()
        await client.create()
        const reading = await client.attach({ stdin: false, stdout: false, stderr: true })
        let said = ''
        reading.stderr.on('data', (bytes) => {
          said += bytes
        })
        await client.start()
        await tell(client, '\n')
        assert.ok(await eventually(() => said === 'full\n'), 'the container goes on')
        const full = box.lines()
        // Somebody makes room: the kubelet removes an older log, here the oldest part of this one.
        const kept = readFileSync(box.logPath)
        renameSync(box.logPath, join(dir, 'old'))
        rmSync(join(dir, 'old'))
        await client.reopenLog()
        await tell(client, '\n')
        assert.ok(await eventually(() => box.lines().length >= 2))
        await tell(client, '\n')
        const record = await ended(client)
        const lines = box.lines()
        const marker = /^cricket: (\d+) bytes of output were lost here \(ENOSPC\)$/
        const lost = Number(marker.exec(lines[0]?.text ?? '')?.[1])
        assert.deepEqual(lines.map(({ text }) => text).slice(1), ['after', 'later'])
        assert.equal(lost, record.bytesLost)
        const written = full.reduce((sum, { text }) => sum + text.length + 1, 0)
        assert.equal(record.bytesLogged, written + 'after\nlater\n'.length)
        const total = Array.from({ length: 300_000 }, (_, i) => `${i + 1}\n`).join('').length
        assert.equal(record.bytesLogged + record.bytesLost, total + 'full\nafter\nlater\n'.length)
        assert.equal(parseLog(kept).length, full.length)
        assert.equal(record.code, 4)
        assert.equal(box.report().split('\n').length, 2, 'said once')
      })
    })

    test('a disk that stays full to the end costs no exit record, and keeps no container', async () => {
      await onSmallDisk({ command: 'seq 1 200000; exit 9' }, async (box) => {
        const record = await ended(await box.start())
        assert.equal(record.code, 9)
        assert.ok(record.bytesLost > 100_000)
        parseLog(readFileSync(box.logPath))
      })
    })

    test('the exit record has its room from the start', async () => {
      await using box = container({ command: 'sleep 0.5; exit 8' })
      const { dir } = box
      const keep = join(dirname(dir), `${dir.slice(dir.lastIndexOf('/') + 1)}-copy`)
      renameSync(dir, keep)
      mkdirSync(dir)
      // The state directory on a disk of its own, which is then filled to the last byte.
      linux.mountTmpfs(dir, { sizeBytes: 4 * 1024 * 1024 })
      try {
        const { status } = await linux
          .runCommand('/bin/cp', ['-a', `${keep}/.`, dir])
          .then(({ exit }) => ({ status: exit }))
        assert.deepEqual(status, { how: 'exited', code: 0 })
        const client = await box.start()
        assert.throws(() => writeFileSync(join(dir, 'filler'), Buffer.alloc(8 * 1024 * 1024)), { code: 'ENOSPC' })
        const record = await ended(client)
        assert.equal(record.code, 8)
        assert.deepEqual(await readExitRecord(dir), record)
      } finally {
        linux.unmount(dir, { detach: true })
        rmSync(keep, { recursive: true, force: true })
      }
    })

    test('a journal that is not there costs nothing but its entries', async () => {
      await using box = container({ command: 'echo to both', journal: true, journalFields: { CONTAINER_NAME: 'n' } })
      const { code, bytesLost, journalLost } = await ended(await box.start())
      // Where there is a journal it takes one line.
      const missing = existsSync('/run/systemd/journal/socket') ? undefined : 1
      assert.deepEqual([code, bytesLost, journalLost], [0, 0, missing])
      assert.equal(box.output('stdout').toString(), 'to both\n')
      if (missing !== undefined) assert.match(box.report(), /journal did not take 1 records/)
    })

    test('what others cut off the log leaves no hole', async () => {
      await using box = container({ command: 'echo one; read x; echo two', stdin: true })
      const client = await box.start()
      assert.ok(await eventually(() => box.lines().length === 1))
      truncateSync(box.logPath, 0)
      await tell(client, '\n')
      await ended(client)
      assert.deepEqual(
        box.lines().map(({ text }) => text),
        ['two'],
      )
    })

    test(`${rotations} rotations at full speed lose, double and tear nothing`, async () => {
      // Lines of one length: the file's size is a number of records, each of which is checked.
      const command = ['/bin/busybox', 'seq', '-w', '1', '999999999']
      await using box = container({ command })
      const client = await box.start()
      const rotated = `${box.logPath}.1`
      let next = 1
      const check = (path: string) => {
        next = checkCounter(readFileSync(path), next)
      }
      for (let round = 0; round < rotations; round++) {
        renameSync(box.logPath, rotated)
        await client.reopenLog()
        assert.ok(existsSync(box.logPath))
        check(rotated)
        rmSync(rotated)
      }
      const { init } = await aliveOf(client)
      linux.signalProcess(init, 9)
      const record = await ended(client)
      // Bytes of a line that the signal cut are a partial record at the very end.
      const last = readFileSync(box.logPath)
      const tail = last.length % RECORD_BYTES
      next = checkCounter(last.subarray(0, last.length - tail), next)
      const cut = tail === 0 ? 0 : tail - PREFIX_BYTES - 1
      assert.equal(record.bytesLogged, (next - 1) * LINE_BYTES + cut)
      assert.equal(record.bytesLost, 0)
      assert.ok(next > rotations, `${next} lines`)
    })

    test('a reopen that fails leaves no file and goes on in the old one, whatever is in the way', async () => {
      await using box = container({ command: 'while read x; do echo $x; done', stdin: true, stdinOnce: false })
      const pod = join(box.dir, 'pod')
      mkdirSync(join(pod, 'main'), { recursive: true })
      const logPath = join(pod, 'main/0.log')
      Object.assign(box, { logPath, options: { ...box.options, logPath, logDirectory: pod } })
      const client = await box.start()
      const old = `${logPath}.old`
      renameSync(logPath, old)
      const outside = join(box.dir, 'outside')
      mkdirSync(outside)
      const obstacles: (() => void)[] = [
        () => symlinkSync('/etc/hostname', logPath),
        () => symlinkSync(join(outside, 'made'), logPath),
        () => linux.mknod(logPath, { type: 'fifo', mode: 0o600 }),
        () => mkdirSync(logPath),
      ]
      for (const block of obstacles) {
        block()
        await assert.rejects(client.reopenLog(), { kind: 'internal' })
        rmSync(logPath, { recursive: true })
      }
      // The container's directory becomes a link to elsewhere, as a pod that may write there can do.
      renameSync(join(pod, 'main'), join(pod, 'moved'))
      symlinkSync(outside, join(pod, 'main'))
      await assert.rejects(client.reopenLog(), { kind: 'internal' })
      rmSync(join(pod, 'main'))
      // Nor is a link followed that stays inside.
      symlinkSync('moved', join(pod, 'main'))
      await assert.rejects(client.reopenLog(), { kind: 'internal', message: /ELOOP/ })
      assert.deepEqual(readdirSync(join(pod, 'moved')), ['0.log.old'])
      rmSync(join(pod, 'main'))
      await assert.rejects(client.reopenLog(), { kind: 'internal', message: /ENOENT/ })
      assert.deepEqual(readdirSync(outside), [])
      assert.deepEqual(readdirSync(pod), ['moved'])
      await tell(client, 'still here\n')
      assert.ok(await eventually(() => parseLog(readFileSync(join(pod, 'moved/0.log.old'))).length === 1))
      renameSync(join(pod, 'moved'), join(pod, 'main'))
      // And a hundred at once are a hundred answers.
      await Promise.all(Array.from({ length: 100 }, () => client.reopenLog()))
      await tell(client, 'new\n')
      assert.ok(await eventually(() => box.lines().length === 1))
    })

    test('a reopen that nobody waits for any more makes no file', async () => {
      await using box = container({ command: 'sleep 100' })
      await box.start()
      renameSync(box.logPath, `${box.logPath}.1`)
      const late = await rawRequest(box, { request: 'reopen-log', notAfter: monotonicMs() - 1 })
      assert.match(JSON.stringify(late), /deadline-exceeded/)
      assert.ok(!existsSync(box.logPath))
      const inTime = await rawRequest(box, { request: 'reopen-log', notAfter: monotonicMs() + 5000 })
      assert.match(JSON.stringify(inTime), /done/)
      assert.equal(statSync(box.logPath).size, 0)
    })

    test('one byte at a time is one line, a gigantic line is partial records, neither costs memory', async () => {
      const command =
        'i=0; while [ $i -lt 2000 ]; do printf x; i=$((i+1)); done; echo; head -c 30000000 /dev/zero; sleep 100'
      await using box = container({ command })
      const client = await box.start()
      const dirty = () => Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${client.pid}/status`, 'latin1'))?.[1])
      const before = dirty()
      assert.ok(await eventually(() => existsSync(box.logPath) && statSync(box.logPath).size > 30_000_000))
      assert.ok(dirty() - before < 40_000, 'the monitor held the line')
      const [first, ...rest] = box.lines()
      assert.deepEqual([first?.tag, first?.text], ['F', 'x'.repeat(2000)])
      assert.ok(rest.every(({ tag, text }) => tag === 'P' && text.length <= 16 * 1024))
    })
  })
}

const LINE_BYTES = '000000001\n'.length
const PREFIX_BYTES = '2016-10-06T00:00:09.669794202Z stdout F '.length
const RECORD_BYTES = PREFIX_BYTES + LINE_BYTES

/** Records that count on from `next`; returns the number to come. */
function checkCounter(bytes: Buffer, next: number): number {
  assert.equal(bytes.length % RECORD_BYTES, 0, 'the file ends within a record')
  let expected = next
  for (let at = PREFIX_BYTES; at < bytes.length; at += RECORD_BYTES) {
    let number = 0
    for (let digit = 0; digit < LINE_BYTES - 1; digit++) number = number * 10 + (bytes[at + digit] ?? 0) - 48
    if (number !== expected) assert.fail(`${number} comes where ${expected} ought to`)
    expected++
  }
  return expected
}

async function aliveOf(client: MonitorClient) {
  const status = await client.status()
  assert.ok(status.state === 'alive')
  return status
}

/** Asks as a client may that is not ours. */
function rawRequest(box: Monitored, request: object): Promise<unknown> {
  const socket = connect(join(box.dir, 'conmon.sock'))
  const frames = new FrameReader()
  socket.write(encodeMessage('hello', { protocol: 1, cookie: box.options.cookie }))
  const asked = encodeMessage('request', { id: 1, request: 'status' })
  const body = Buffer.from(JSON.stringify({ id: 1, ...request }))
  const header = Buffer.from(asked.subarray(0, 5))
  header.writeUInt32BE(body.length)
  socket.write(Buffer.concat([header, body]))
  return new Promise((resolve, reject) => {
    socket.on('error', reject)
    socket.on('data', (bytes) => {
      const reply = frames.read(Buffer.from(bytes)).find(({ type }) => type === frameTypes.reply)
      if (reply === undefined) return
      socket.destroy()
      resolve(JSON.parse(reply.payload.toString()))
    })
  })
}
