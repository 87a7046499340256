/** What runtimes do wrong once a year, done by the fake one. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { linux } from '#linux/linux.ts'
import type { MonitorOptions } from '#proto/conmon.ts'
import { readExitRecord } from '../exit-record.ts'
import { eventually, Monitored, monitorsOf, type Rig } from './monitored.ts'

type Faults = Record<string, Record<string, unknown>>

function killNow(pid: number): void {
  const identity = linux.processIdentity(pid)
  assert.ok(identity !== undefined && linux.signalProcess(identity, 9))
}

const gone = (box: Monitored) => eventually(() => monitorsOf(box.dir).length === 0)

/** @param rig with the fake runtime */
export function faultSuite(rig: Rig): void {
  function faulty(faults: Faults, command = 'sleep 100', options: Partial<MonitorOptions> = {}): Monitored {
    const box = new Monitored(rig, { command, ...options })
    const { root } = box.options.runtime
    mkdirSync(root, { recursive: true })
    writeFileSync(join(root, 'faults.json'), JSON.stringify(faults))
    return box
  }

  describe(`monitor of runtimes that fail (${rig.name})`, () => {
    test('a runtime that hangs is killed at the deadline, with what it has started', async () => {
      await using box = faulty({ create: { abandon: true, hang: true } }, 'true', { createTimeoutMs: 400 })
      const client = await box.launch()
      const children = new Set<number>()
      const creating = client.create()
      await eventually(() => {
        for (const runtime of linux.childrenOf(client.pid))
          for (const child of linux.childrenOf(runtime)) children.add(child)
        return children.size > 0
      }, 350)
      await assert.rejects(creating, { kind: 'deadline-exceeded', message: /did not finish in 400 ms/ })
      assert.ok(await gone(box))
      assert.deepEqual(
        [...children].filter((pid) => linux.processIdentity(pid) !== undefined),
        [],
      )
    })

    test('what a runtime says reaches the daemon clean and short', async () => {
      const stderr = `\u001b[31mred\u001b[0m\u0000\r\nnew line ${'long '.repeat(10_000)}`
      await using box = faulty({ create: { stderr, exitCode: 9 } })
      const error = await (await box.launch()).create().catch((reason: unknown) => reason)
      assert.ok(error instanceof Error)
      assert.match(error.message, /red new line long/)
      assert.ok(Buffer.byteLength(error.message) <= 8192)
      assert.doesNotMatch(error.message, /[\u0000-\u001f]/)
    })

    test('the error of the runtime log comes before what is on its standard error', async () => {
      const log =
        '{"level":"warning","msg":"w"}\n{"level":"error","msg":"the reason"}\nnot json\n{"level":"info","msg":"i"}\n'
      await using box = faulty({ create: { stderr: 'usage: …', log, exitCode: 1 } })
      await assert.rejects((await box.launch()).create(), { kind: 'internal', message: /: the reason$/ })
    })

    test('a silent failure is told by its exit code', async () => {
      await using box = faulty({ create: { exitCode: 42 } })
      await assert.rejects((await box.launch()).create(), { message: /exit code 42/ })
    })

    for (const pidFile of [false, '', '0', '99999999', 'twelve', '1'.repeat(100)]) {
      test(`a pid file that says ${JSON.stringify(pidFile)} makes the creation fail, and no process is left`, async () => {
        await using box = faulty({ create: { pidFile } })
        await assert.rejects((await box.launch()).create(), { kind: 'internal' })
        assert.ok(await gone(box))
      })
    }

    test('a pid file that names somebody else makes the creation fail, and nothing happens to him', async () => {
      const stranger = spawn('/bin/sleep', ['1000'], { stdio: 'ignore' })
      try {
        await using box = faulty({ create: { pidFile: String(stranger.pid) } })
        await assert.rejects((await box.launch()).create(), { kind: 'internal', message: /names no process of it/ })
        assert.ok(await gone(box))
        assert.deepEqual([stranger.exitCode, stranger.signalCode], [null, null])
      } finally {
        stranger.kill('SIGKILL')
      }
    })

    test('an init that dies right after its creation is an exit, of a container that never started', async () => {
      await using box = faulty({ create: { killInit: true } })
      const client = await box.launch()
      await client.create()
      await assert.rejects(client.start())
      const { code, startedAtUnixNs } = await client.exited
      assert.deepEqual([code, startedAtUnixNs], [137, undefined])
    })

    test('an init that dies between create and start makes the start fail', async () => {
      await using box = faulty({ start: { delayMs: 300 } })
      const client = await box.launch()
      const init = await client.create()
      const starting = assert.rejects(client.start(), { kind: 'internal', message: /stopped/ })
      linux.signalProcess(init, 9)
      await starting
      assert.equal((await client.exited).startedAtUnixNs, undefined)
    })

    test('a runtime has the usual limit on open files, not the one of the monitor', async () => {
      const root = mkdtempSync(join(tmpdir(), 'cricket-limit-runtime-'))
      const path = join(root, 'runtime')
      writeFileSync(path, '#!/bin/sh\necho "limit $(ulimit -Sn)" >&2; exit 1\n', { mode: 0o755 })
      await using box = new Monitored({ ...rig, runtimePath: path }, { command: 'true' })
      await assert.rejects((await box.launch()).create(), { message: /limit 1024$/ })
      rmSync(root, { recursive: true })
    })

    test('a runtime that is killed is told, and leaves nothing', async () => {
      await using box = faulty({ create: { abandon: true, killSelf: true } })
      await assert.rejects((await box.launch()).create(), { kind: 'internal', message: /SIGKILL/ })
      assert.ok(await gone(box))
    })

    test('thirty megabytes of garbage from the runtime are read to the end and not kept', async () => {
      await using box = faulty({ create: { stderrBytes: 30_000_000, exitCode: 1 } })
      const client = await box.launch()
      const error = await client.create().catch((reason: unknown) => reason)
      assert.ok(error instanceof Error)
      assert.ok(Buffer.byteLength(error.message) <= 8192)
    })

    test('a monitor that dies during the runtime’s create is told, and leaves no record of a success', async () => {
      await using box = faulty({ create: { delayMs: 5000 } })
      const client = await box.launch()
      const creating = assert.rejects(client.create(), { kind: 'unavailable' })
      await eventually(() => linux.childrenOf(client.pid).length > 0)
      killNow(client.pid)
      await creating
      assert.equal(await readExitRecord(box.dir), undefined)
    })

    test('a monitor that dies between create and start is lost, and so is its container', async () => {
      await using box = faulty({})
      const client = await box.launch()
      await client.create()
      killNow(client.pid)
      await client.lost
      await assert.rejects(client.start(), { kind: 'unavailable' })
      assert.equal(await readExitRecord(box.dir), undefined)
    })

    test('a monitor that dies between the end of init and its record leaves none: nobody takes that for a success', async () => {
      // A process of another session holds the output open, so that the monitor waits for the rest of it.
      await using box = faulty({}, 'setsid sleep 3 & exit 0')
      const client = await box.start()
      assert.ok(await eventually(async () => (await client.status()).state === 'ending'))
      killNow(client.pid)
      await client.lost
      assert.equal(await readExitRecord(box.dir), undefined)
    })

    test('somebody outside who holds the output open delays the end by two seconds at most', async () => {
      await using box = faulty({}, 'setsid sleep 30 & echo last; exit 6')
      const client = await box.start()
      const { code } = await client.exited
      assert.equal(code, 6)
      assert.match(box.report(), /holds its output open/)
      assert.equal(box.output('stdout').toString(), 'last\n')
    })

    test('a start that fails is told, and the container stays', async () => {
      await using box = faulty({ start: { stderr: 'no start today', exitCode: 1 } })
      const client = await box.launch()
      await client.create()
      await assert.rejects(client.start(), { kind: 'internal', message: /no start today/ })
      assert.equal((await client.status()).state, 'alive')
    })

    test('a start that hangs keeps neither the log nor the answers waiting', async () => {
      const box = faulty({ start: { hang: true } }, 'true', { createTimeoutMs: 1000 })
      await using _ = box
      const client = await box.launch()
      await client.create()
      const starting = assert.rejects(client.start(), { kind: 'deadline-exceeded' })
      assert.equal((await client.status()).state, 'alive')
      await client.reopenLog()
      await starting
    })

    test('a runtime that is not there is told by its path', async () => {
      const box = new Monitored({ ...rig, runtimePath: '/nonesuch/runtime' }, { command: 'true' })
      await using _ = box
      await assert.rejects((await box.launch()).create(), { kind: 'internal', message: /nonesuch\/runtime/ })
    })

    test('a monitor that is told to leave while its create fails leaves, and says so', async () => {
      for (const delayMs of [0, 20, 50, 100]) {
        await using box = faulty({ create: { delayMs, exitCode: 9 } })
        const client = await box.launch()
        const creating = assert.rejects(client.create())
        await delay(delayMs)
        await client.shutdown()
        await creating
        assert.ok(await gone(box))
      }
    })

    test('a monitor that is told to leave ends the runtime that hangs, and what it has started', async () => {
      await using box = faulty({ create: { abandon: true, hang: true } })
      const client = await box.launch()
      const creating = assert.rejects(client.create(), { kind: 'unavailable', message: /told to leave/ })
      const children = new Set<number>()
      assert.ok(
        await eventually(() => {
          for (const runtime of linux.childrenOf(client.pid))
            for (const child of linux.childrenOf(runtime)) children.add(child)
          return children.size > 0
        }),
      )
      await client.shutdown()
      await creating
      assert.ok(await gone(box))
      const left = [...children].filter((pid) => linux.processIdentity(pid) !== undefined)
      assert.deepEqual(left, [])
    })

    test('a monitor whose container has been created meanwhile does not leave it alone', async () => {
      await using box = faulty({})
      const client = await box.launch()
      await client.create()
      await assert.rejects(client.shutdown(), { kind: 'failed-precondition', message: /it is alive/ })
    })
  })
}
