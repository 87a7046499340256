/** A log's disk that does not answer: an ext4 of its own, frozen. */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { linux } from '#linux/linux.ts'
import type { MonitorClient } from '../monitor-client.ts'
import { eventually, Monitored, type MonitoredInput, type Rig } from './monitored.ts'

const ended = (client: MonitorClient) => Promise.race([client.exited, client.lost.then(() => assert.fail('lost'))])

/** A directory with a file system of its own. Disposing of it thaws it; so does the death of whoever runs the test. */
class IceBox {
  readonly dir: string
  readonly #watcher: ReturnType<typeof spawn>

  constructor(above: string) {
    this.dir = join(above, 'logs')
    const image = join(above, 'logs.img')
    mkdirSync(this.dir)
    writeFileSync(image, '')
    truncateSync(image, 64 * 1024 * 1024)
    execFileSync('mkfs.ext4', ['-q', '-F', image])
    execFileSync('mount', ['-o', 'loop,noatime', image, this.dir])
    this.#watcher = spawn('sh', ['-c', `read x; fsfreeze -u '${this.dir}' 2>/dev/null`], {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    })
  }

  freeze(): void {
    execFileSync('fsfreeze', ['-f', this.dir])
  }

  thaw(): void {
    execFileSync('fsfreeze', ['-u', this.dir])
  }

  [Symbol.dispose](): void {
    try {
      execFileSync('fsfreeze', ['-u', this.dir], { stdio: 'ignore' })
    } catch {
      // It is not frozen.
    }
    this.#watcher.stdin?.end()
    linux.unmount(this.dir, { detach: true })
  }
}

const hasLoops = () =>
  ['/usr/sbin/fsfreeze', '/usr/sbin/mkfs.ext4', '/dev/loop-control'].every((path) => existsSync(path))

/** Reads what an attached client gets, as it comes. */
async function reader(client: MonitorClient, what: 'stdout' | 'stderr') {
  const stream = await client.attach({ stdin: false, stdout: what === 'stdout', stderr: what === 'stderr' })
  const seen = { text: '' }
  stream[what].on('data', (bytes) => {
    seen.text += bytes
  })
  return seen
}

async function tell(client: MonitorClient, text: string): Promise<void> {
  const stream = await client.attach({ stdin: true, stdout: false, stderr: false })
  await new Promise<void>((resolve) => stream.stdin?.end(text, () => resolve()))
  stream.close()
}

export function hangSuite(rig: Rig): void {
  async function onIce(t: TestContext, input: MonitoredInput, body: (box: Monitored, ice: IceBox) => Promise<void>) {
    if (!hasLoops()) return t.skip('host lacks loop devices, mkfs.ext4 or fsfreeze')
    const plain = new Monitored(rig, input)
    // Declared first, so that it is thawed last: nobody can be got rid of before. Hence by hand.
    const ice = new IceBox(plain.dir)
    const logPath = join(ice.dir, '0.log')
    const box = Object.assign(plain, { logPath, options: { ...plain.options, logPath } })
    try {
      await body(box, ice)
    } finally {
      ice[Symbol.dispose]()
      await box[Symbol.asyncDispose]()
    }
  }
  const ticking = 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done'
  const numbers = (text: string) => text.split('\n').slice(0, -1).map(Number)

  describe(`a log's disk that hangs (${rig.name})`, () => {
    test('keeps nobody: requests, attached clients, the end of the container and its record', async (t) => {
      await onIce(t, { command: ticking }, async (box, ice) => {
        const client = await box.start()
        const seen = await reader(client, 'stdout')
        assert.ok(await eventually(() => box.lines().length > 3))
        ice.freeze()
        const before = numbers(seen.text).length
        assert.ok(await eventually(() => numbers(seen.text).length > before + 20), 'an attached client reads on')
        const status = await client.status()
        assert.ok(status.state === 'alive')
        const killed = Date.now()
        linux.signalProcess(status.init, 9)
        const record = await ended(client)
        const told = Date.now()
        assert.equal(record.code, 137)
        const finished = Number(record.finishedAtUnixNs / 1_000_000n)
        assert.ok(finished >= killed - 1 && finished <= told)
        // Seconds before the exit was told: the disk was given its time, and the record does not count it.
        assert.ok(told - finished > 2000, 'the log was waited for')
        assert.match(box.report(), /the disk does not answer/)
        assert.ok(record.bytesLost > 0)
        const total = numbers(seen.text).reduce((sum, n) => sum + `${n}\n`.length, 0)
        assert.ok(record.bytesLogged + record.bytesLost >= total)
        t.diagnostic(`told ${told - killed} ms after the end`)
      })
    })

    test('costs not a byte when it comes back in time, nor does a rotation meanwhile', async (t) => {
      await onIce(t, { command: ticking }, async (box, ice) => {
        const client = await box.start()
        const seen = await reader(client, 'stdout')
        assert.ok(await eventually(() => box.lines().length > 3))
        ice.freeze()
        const before = numbers(seen.text).length
        const reopened = client.reopenLog()
        assert.ok(await eventually(() => numbers(seen.text).length > before + 50))
        ice.thaw()
        await reopened
        renameSync(box.logPath, `${box.logPath}.1`)
        await client.reopenLog()
        assert.ok(await eventually(() => box.lines().length > 3))
        const status = await client.status()
        assert.ok(status.state === 'alive')
        linux.signalProcess(status.init, 9)
        const record = await ended(client)
        const logged = numbers(box.output('stdout', `${box.logPath}.1`, box.logPath).toString())
        assert.deepEqual(
          logged,
          logged.map((_, i) => i + 1),
        )
        assert.equal(record.bytesLost, 0)
        assert.equal(record.bytesLogged, box.output('stdout', `${box.logPath}.1`, box.logPath).length)
      })
    })

    test('does not reopen the log when nobody counts on it any more', async (t) => {
      await onIce(t, { command: ticking }, async (box, ice) => {
        const client = await box.start()
        const old = `${box.logPath}.1`
        assert.ok(await eventually(() => box.lines().length > 3))
        renameSync(box.logPath, old)
        ice.freeze()
        await assert.rejects(client.reopenLog(), { kind: 'deadline-exceeded' })
        ice.thaw()
        const before = box.lines(old).length
        assert.ok(await eventually(() => box.lines(old).length > before + 50), 'the old file is used on')
        assert.equal(box.log().length, 0)
      })
    })

    test('makes the container wait, then loses and counts, and marks the gap when it comes back', async (t) => {
      const command = 'read x; seq 1 900000; echo written >&2; read x; echo after; exit 4'
      await onIce(t, { command, stdin: true }, async (box, ice) => {
        const client = await box.start()
        const seen = await reader(client, 'stderr')
        ice.freeze()
        await tell(client, '\n')
        await delay(3000)
        assert.equal(seen.text, '', 'the container waits')
        assert.ok(await eventually(() => seen.text === 'written\n', 60_000), 'not for ever')
        ice.thaw()
        await eventually(async () => (await client.status()).bytesLogged > 100_000)
        await tell(client, '\n')
        const record = await ended(client)
        const lines = box.lines()
        const marker = /^cricket: (\d+) bytes of output were lost here \(ETIMEDOUT\)$/
        const gaps = lines.flatMap(({ text }, at) => (marker.test(text) ? [at] : []))
        assert.equal(gaps.length, 1)
        const [gap = 0] = gaps
        assert.equal(Number(marker.exec(lines[gap]?.text ?? '')?.[1]), record.bytesLost)
        // A line that was not whole when the container had to wait is a partial record.
        const kept = lines.slice(0, gap).map(({ tag, text }) => (tag === 'F' ? `${text}\n` : text))
        const written = Array.from({ length: 900_000 }, (_, i) => `${i + 1}\n`).join('')
        assert.ok(written.startsWith(kept.join('')), 'in order, and all of it')
        assert.deepEqual(lines.at(-1)?.text, 'after')
        assert.equal(record.bytesLogged + record.bytesLost, written.length + 'written\nafter\n'.length)
        assert.ok(record.bytesLogged > 100_000, 'what was kept')
        assert.equal(record.code, 4)
      })
    })

    test('refuses a container whose log cannot be opened, in reasonable time', async (t) => {
      await onIce(t, { command: 'sleep 100' }, async (box, ice) => {
        const client = await box.launch()
        ice.freeze()
        await assert.rejects(client.create(), { kind: 'deadline-exceeded', message: /disk does not answer/ })
        await client.lost
      })
    })
  })
}
