/** What runtimes do wrong once a year, done by the fake one. */
import assert from 'node:assert/strict'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { linux } from '#linux/linux.ts'
import type { MonitorOptions } from '#proto/conmon.ts'
import { eventually, Monitored, monitorsOf } from './testing/monitored.ts'
import { fakeRig, fromSources } from './testing/rigs.ts'

const rig = fakeRig('sources', fromSources)
after(() => rmSync(dirname(rig.runtimePath), { recursive: true }))

type Faults = Record<string, Record<string, unknown>>

function faulty(faults: Faults, command = 'sleep 100', options: Partial<MonitorOptions> = {}): Monitored {
  const box = new Monitored(rig, { command, ...options })
  const { root } = box.options.runtime
  mkdirSync(root, { recursive: true })
  writeFileSync(join(root, 'faults.json'), JSON.stringify(faults))
  return box
}

const gone = (box: Monitored) => eventually(() => monitorsOf(box.dir).length === 0)

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

test('an init that dies right after its creation is an exit', async () => {
  await using box = faulty({ create: { killInit: true } })
  const client = await box.launch()
  await client.create()
  assert.equal((await client.exited).code, 137)
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
