/** What a monitor must do, whatever it runs on and whatever runtime it runs: one suite for all of them. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { linux } from '#linux/linux.ts'
import { isKind, type RuntimeError } from '#proto/errors.ts'
import { readExitRecord } from '../exit-record.ts'
import type { MonitorClient } from '../monitor-client.ts'
import { eventually, Monitored, type MonitoredInput, monitorsOf, type Rig } from './monitored.ts'

const never = (promise: Promise<unknown>): Promise<boolean> =>
  Promise.race([promise.then(() => false), delay(300, true)])

/** The error of kind `kind`, or the test fails. */
async function failure(promise: Promise<unknown>, kind: RuntimeError['kind']): Promise<RuntimeError> {
  const error = await promise.then(
    () => assert.fail('it succeeded'),
    (reason: unknown) => reason,
  )
  if (!isKind(error, kind)) throw error
  return error
}

const monitorGone = (container: Monitored): Promise<boolean> => eventually(() => monitorsOf(container.dir).length === 0)

export function monitorSuite(rig: Rig): void {
  const container = (input: MonitoredInput) => new Monitored(rig, input)
  const ended = async (client: MonitorClient) => {
    const lost = client.lost.then(() => assert.fail('the monitor was lost'))
    return Promise.race([client.exited, lost])
  }

  describe(`monitor (${rig.name})`, () => {
    test('logs both streams and records the exit', async () => {
      await using box = container({ command: 'echo out; echo err >&2; printf tail; exit 3' })
      const client = await box.launch()
      assert.equal(client.statusAtConnect.state, 'launched')
      const init = await client.create()
      assert.deepEqual(init, linux.processIdentity(init.pid))
      assert.equal((await client.status()).state, 'alive')
      await client.start()
      const record = await ended(client)
      assert.deepEqual(record, await readExitRecord(box.dir))
      const { startedAtUnixNs, finishedAtUnixNs, ...known } = record
      assert.ok(startedAtUnixNs !== undefined && startedAtUnixNs <= finishedAtUnixNs)
      assert.ok(Math.abs(Number(finishedAtUnixNs / 1_000_000n) - Date.now()) < 60_000)
      assert.deepEqual(known, {
        id: box.id,
        ...init,
        bootId: linux.bootId(),
        code: 3,
        signal: 0,
        oomKilled: false,
        bytesLogged: 12,
        bytesLost: 0,
      })
      const lines = box.lines().sort((a, b) => a.stream.localeCompare(b.stream))
      assert.deepEqual(
        lines,
        [
          { stream: 'stderr', tag: 'F', text: 'err' },
          { stream: 'stdout', tag: 'F', text: 'out' },
          { stream: 'stdout', tag: 'P', text: 'tail' },
        ].sort((a, b) => a.stream.localeCompare(b.stream)),
      )
      assert.equal(statSync(box.logPath).mode & 0o777, 0o640)
      assert.ok(await monitorGone(box))
      assert.ok(!existsSync(join(box.dir, 'conmon.sock')))
      assert.equal(box.report(), '')
    })

    test('records the signal that ended init', async () => {
      await using box = container({ command: 'kill -USR1 $$; sleep 10' })
      const client = await box.launch()
      const { pid, startTime } = await client.create()
      await client.start()
      // As init of its PID namespace the shell is immune to what it sends itself.
      await delay(100)
      linux.signalProcess({ pid, startTime }, 9)
      const { code, signal } = await ended(client)
      assert.deepEqual(
        [
          [137, 9],
          [138, 10],
        ].find(([c]) => c === code),
        [code, signal],
      )
    })

    test('records the end of a container that was never started', async () => {
      await using box = container({ command: 'true' })
      const client = await box.launch()
      linux.signalProcess(await client.create(), 9)
      assert.equal((await ended(client)).code, 137)
      await failure(client.start(), 'unavailable').catch(() => failure(client.start(), 'failed-precondition'))
    })

    test('answers the start of containers that end at once, ten in a row', async () => {
      for (let round = 0; round < 10; round++) {
        await using box = container({ command: ['/bin/busybox', 'true'] })
        const client = await box.start()
        assert.equal((await ended(client)).code, 0)
      }
    })

    test('tells what the command was when there is none, and leaves nothing behind', async () => {
      await using box = container({ command: ['/bin/nonesuch'] })
      const client = await box.launch()
      const { message } = await failure(client.create(), 'failed-precondition')
      assert.match(message, /\/bin\/nonesuch/)
      assert.ok(message.includes(box.id))
      assert.ok(await monitorGone(box))
      assert.ok(!existsSync(join(box.options.runtime.root, box.id)))
      assert.equal(await readExitRecord(box.dir), undefined)
    })

    test('does not touch a container that has its id already', async () => {
      await using box = container({ command: 'sleep 100' })
      mkdirSync(join(box.options.runtime.root, box.id), { recursive: true })
      await failure((await box.launch()).create(), 'failed-precondition')
      assert.ok(existsSync(join(box.options.runtime.root, box.id)))
    })

    test('is not kept from leaving by a container that could not be created', async () => {
      const attempt = async () => {
        await using box = container({ command: ['/bin/nonesuch'] })
        const client = await box.launch()
        await assert.rejects(client.create())
        await client.shutdown()
      }
      // What was wrong once depended on who came first: several at once find it sooner.
      await Promise.all(Array.from({ length: 8 }, attempt))
    })

    test('makes an unfinished line visible after a while', async () => {
      await using box = container({ command: 'printf "password: "; sleep 100' })
      await box.start()
      assert.ok(await eventually(() => box.lines().length > 0))
      assert.deepEqual(box.lines(), [{ stream: 'stdout', tag: 'P', text: 'password: ' }])
    })

    test('keeps every byte of long, binary and empty lines', async () => {
      await using box = container({ command: 'cat /bin/busybox; printf "\\n\\n\\r\\n"; head -c 40000 /dev/zero' })
      const client = await box.start()
      const { bytesLogged } = await ended(client)
      const sent = Buffer.concat([readFileSync('/bin/busybox'), Buffer.from('\n\n\r\n'), Buffer.alloc(40_000)])
      assert.equal(bytesLogged, sent.length)
      assert.ok(box.output('stdout').equals(sent))
      assert.ok(box.lines().every(({ text }) => text.length <= 16 * 1024))
    })

    test('goes on in a new file after rotation, without losing or tearing a line', async () => {
      await using box = container({ command: 'i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done' })
      const client = await box.start()
      const files: string[] = []
      for (let round = 0; round < 5; round++) {
        const rotated = `${box.logPath}.${round}`
        renameSync(box.logPath, rotated)
        files.push(rotated)
        const reopened = await client.reopenLog().then(
          () => true,
          () => false,
        )
        if (!reopened) break
        assert.ok(existsSync(box.logPath))
        await delay(20)
      }
      await ended(client)
      const all = existsSync(box.logPath) ? [...files, box.logPath] : files
      const numbers = box
        .output('stdout', ...all)
        .toString()
        .split('\n')
        .slice(0, -1)
      assert.deepEqual(
        numbers,
        Array.from({ length: 30_000 }, (_, i) => `line ${i}`),
      )
    })

    test('refuses to reopen where the name is a link, and goes on in the old file', async () => {
      await using box = container({ command: 'sleep 0.5; echo after' })
      const client = await box.start()
      renameSync(box.logPath, `${box.logPath}.1`)
      symlinkSync('/etc/hostname', box.logPath)
      await failure(client.reopenLog(), 'internal')
      await ended(client)
      assert.equal(box.output('stdout', `${box.logPath}.1`).toString(), 'after\n')
    })

    test('does not wait for a reader where the log is a FIFO', async () => {
      await using box = container({ command: 'true' })
      linux.mknod(box.logPath, { type: 'fifo', mode: 0o600 })
      await failure((await box.launch()).create(), 'internal')
    })

    test('closes the input when told to', async () => {
      await using box = container({ command: 'cat; echo done', stdin: true })
      const client = await box.start()
      assert.ok(await never(client.exited))
      await client.closeStdin()
      assert.equal((await ended(client)).code, 0)
      assert.equal(box.output('stdout').toString(), 'done\n')
    })

    test('gives a container without input an empty one', async () => {
      await using box = container({ command: 'cat; echo done' })
      assert.equal((await ended(await box.start())).code, 0)
    })

    test('drops output when there is no log', async () => {
      await using box = container({ command: 'head -c 1000000 /dev/zero; exit 4' })
      const options: Record<string, unknown> = { ...box.options }
      delete options.logPath
      Object.assign(box, { options })
      assert.equal((await ended(await box.start())).code, 4)
      assert.ok(!existsSync(box.logPath))
    })

    test('survives every connection and knows its own by the cookie', async () => {
      await using box = container({ command: 'sleep 0.7; echo late; exit 5' })
      const first = await box.start()
      first.close()
      assert.ok(await never(Promise.race([first.lost, first.exited])))
      await failure(box.connect('a guess '), 'permission-denied')
      const second = await box.connect()
      const { statusAtConnect } = second
      assert.ok(statusAtConnect.state === 'alive' && statusAtConnect.started)
      assert.equal((await ended(second)).code, 5)
      assert.equal(box.output('stdout').toString(), 'late\n')
    })

    test('its death is noticed at once', async () => {
      await using box = container({ command: 'sleep 100' })
      const client = await box.start()
      const monitor = linux.processIdentity(client.pid)
      assert.ok(monitor)
      linux.signalProcess(monitor, 9)
      await client.lost
      await failure(client.status(), 'unavailable')
      await failure(box.connect(), 'unavailable')
    })

    test('ignores signals that are meant for sessions and services', async () => {
      await using box = container({ command: 'sleep 0.5; exit 6' })
      const client = await box.start()
      const monitor = linux.processIdentity(client.pid)
      assert.ok(monitor)
      for (const signal of [1, 2, 15]) linux.signalProcess(monitor, signal)
      assert.equal((await ended(client)).code, 6)
    })

    test('leaves when it is not needed, or when its launcher is gone before it was', async () => {
      await using unneeded = container({ command: 'true' })
      await (await unneeded.launch()).shutdown()
      assert.ok(await monitorGone(unneeded))
      await using abandoned = container({ command: 'true' })
      ;(await abandoned.launch()).close()
      assert.ok(await monitorGone(abandoned))
    })

    test('refuses to leave a live container, and what cannot be now', async () => {
      await using box = container({ command: 'sleep 100' })
      const client = await box.launch()
      await failure(client.start(), 'failed-precondition')
      await failure(client.reopenLog(), 'failed-precondition')
      await client.create()
      await failure(client.create(), 'failed-precondition')
      await client.start()
      await failure(client.start(), 'failed-precondition')
      await failure(client.resize({ width: 80, height: 24 }), 'failed-precondition')
      await failure(client.shutdown(), 'failed-precondition')
      assert.equal((await (await box.connect()).status()).state, 'alive')
    })

    test('stands on its own: session, directory, mask, descriptors', async () => {
      await using box = container({ command: 'sleep 100' })
      const { pid } = await box.start()
      const status = readFileSync(`/proc/${pid}/status`, 'latin1')
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
        .replace(/^.*\) /s, '')
        .split(' ')
      assert.equal(Number(stat[3]), pid)
      assert.match(status, /^Umask:\t0022$/m)
      assert.equal(readFileSync(`/proc/${pid}/environ`, 'latin1').includes('HOME='), false)
    })
  })
}
