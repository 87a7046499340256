/** What a notifier does with the calls of a real filter: answers, tells, stops. The time until a stop passes by hand. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { setInterval } from 'node:timers/promises'
import { type Log, silentLog } from '#proto/log.ts'
import { type NotifierAction, SeccompNotifier } from './notifier.ts'

const EPERM = '-1'
const PROGRAM = join(import.meta.dirname, 'testing/child.ts')
const openFiles = (): number => readdirSync('/proc/self/fd').length

interface Stage {
  readonly notifier: SeccompNotifier
  /** Names of calls, as they were told. */
  readonly told: unknown[]
  readonly stopped: string[]
  /** Has the program make the call of this name. Returns what it answered. */
  call(name: string): Promise<string>
  end(): Promise<void>
}

/** A notifier for a program that runs. */
async function stage(t: TestContext, action: NotifierAction): Promise<Stage> {
  const dir = mkdtempSync(join(tmpdir(), 'cricket-refused-'))
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const told: unknown[] = []
  const stopped: string[] = []
  const log: Log = { ...silentLog, warn: (_, fields) => fields?.call !== undefined && told.push(fields.call) }
  const notifier = new SeccompNotifier(log)
  notifier.onStop(async (id) => {
    stopped.push(id)
  })
  const path = join(dir, 'listener')
  notifier.watch('c', path, action)
  const child = spawn(process.execPath, [PROGRAM, path], { stdio: ['pipe', 'pipe', 'inherit'] })
  const closed = once(child, 'close')
  t.after(async () => {
    child.kill('SIGKILL')
    await closed
    notifier.forget('c')
    rmSync(dir, { recursive: true })
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const line = async () => String((await lines.next()).value)
  assert.equal(await line(), 'ready')
  return {
    ...{ notifier, told, stopped },
    call: (name) => {
      child.stdin.write(`${name}\n`)
      return line()
    },
    end: async () => {
      child.stdin.end()
      await closed
    },
  }
}

const CHDIR = `system call ${process.arch === 'arm64' ? 49 : 80}`
const GETPPID = `system call ${process.arch === 'arm64' ? 173 : 110}`
const nameOf = (text: unknown): string => String(text).replace(/ of machine .*/, '')

test('a call is refused, and the first of each is told; who only wants to be told is not stopped', async (t) => {
  const { notifier, told, stopped, call } = await stage(t, 'log')
  const answers = [await call('chdir'), await call('getppid'), await call('chdir')]
  assert.deepEqual(answers, [EPERM, EPERM, EPERM])
  assert.deepEqual(told.map(nameOf), [CHDIR, GETPPID])
  t.mock.timers.tick(60_000)
  assert.deepEqual(stopped, [])
  assert.equal(notifier.verdict('c'), undefined)
})

test('five seconds after the last refused call the container is stopped, once, and why is told in order', async (t) => {
  const { notifier, stopped, call } = await stage(t, 'stop')
  const names = ['chdir', 'getppid', 'chdir']
  for (const name of names) {
    await call(name)
    t.mock.timers.tick(4999)
    assert.deepEqual(stopped, [], name)
  }
  assert.equal(notifier.verdict('c'), undefined)
  t.mock.timers.tick(1)
  t.mock.timers.tick(60_000)
  assert.deepEqual(stopped, ['c'])
  const verdict = notifier.verdict('c')?.replaceAll(/ of machine \w+/g, '')
  const sums = [`${CHDIR} (2x)`, `${GETPPID} (1x)`].sort().join(', ')
  assert.equal(verdict, `Used refused system calls: ${sums}`)
})

test('a container that ends before is not stopped any more', async (t) => {
  const { notifier, stopped, call } = await stage(t, 'stop')
  await call('chdir')
  notifier.forget('c')
  t.mock.timers.tick(60_000)
  assert.deepEqual(stopped, [])
})

test('the listener is let go when the last process of the filter has ended, and all else when the container is forgotten', async (t) => {
  const before = openFiles()
  const { notifier, call, end } = await stage(t, 'log')
  await call('chdir')
  await end()
  // The socket and what waits for listeners; no listener.
  for await (const _ of setInterval(20)) if (openFiles() <= before + 2) break
  notifier.forget('c')
  assert.equal(openFiles(), before)
})
