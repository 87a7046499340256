import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, describe, type TestContext, test } from 'node:test'
import { linux } from '#linux/linux.ts'
import type { ProcessIdentity } from '#linux/proc.ts'
import { silentLog } from '#proto/log.ts'
import { launchMonitor } from './launch-monitor.ts'
import { SpareMonitors } from './spare-monitors.ts'
import { eventually, Monitored, monitorsOf, type Rig } from './testing/monitored.ts'
import { bundled, compiled, fakeRig, fromSources, isBuilt } from './testing/rigs.ts'

const rigs = [fakeRig('sources', fromSources), fakeRig('bundle', bundled), fakeRig('executable', compiled)]
after(() => {
  for (const { runtimePath } of rigs) rmSync(dirname(runtimePath), { recursive: true })
})

function sparesOf(t: TestContext, { program }: Rig, count = 1): SpareMonitors {
  const spares = new SpareMonitors({ program, linux, log: silentLog, count })
  t.after(() => spares.close())
  spares.refill()
  return spares
}

function identityOf(pid: number | undefined): ProcessIdentity {
  const identity = pid === undefined ? undefined : linux.processIdentity(pid)
  assert.ok(identity)
  return identity
}

const hasGone = (identity: ProcessIdentity) => eventually(() => !linux.isAlive(identity))

async function runsToItsEnd(box: Monitored, spares: SpareMonitors): Promise<number> {
  const client = await box.launch(spares)
  await client.create()
  await client.start()
  const { code } = await client.exited
  assert.equal(code, 3)
  assert.equal(box.output('stdout').toString(), 'hello\n')
  return client.pid
}

const command = 'echo hello; exit 3'

for (const rig of rigs) {
  describe(`spare monitors (${rig.name})`, { skip: !isBuilt(rig.program) && 'dist lacks it' }, () => {
    test('one that waits is a container’s monitor like any other', async (t) => {
      const spares = sparesOf(t, rig)
      const [pid] = spares.waiting
      await using box = new Monitored(rig, { command: `echo hello; sleep 1; exit 3`, oomScoreAdj: 1 })
      const client = await box.launch(spares)
      assert.equal(client.pid, pid)
      assert.deepEqual(spares.waiting, [])
      assert.deepEqual(monitorsOf(box.dir), [pid], 'its command line names the directory')
      assert.match(readFileSync(`/proc/${pid}/status`, 'latin1'), /^Umask:\s+0022$/m)
      assert.ok(existsSync(join(box.dir, 'conmon.log')))
      await client.create()
      await client.start()
      assert.equal((await client.exited).code, 3)
      assert.equal(box.output('stdout').toString(), 'hello\n')
    })

    test('one that was killed, or does not move, is replaced by a launch', async (t) => {
      for (const signal of ['SIGKILL', 'SIGSTOP'] as const) {
        const spares = sparesOf(t, rig)
        const spare = identityOf(spares.waiting[0])
        process.kill(spare.pid, signal)
        await using box = new Monitored(rig, { command })
        assert.notEqual(await runsToItsEnd(box, spares), spare.pid)
        assert.ok(await hasGone(spare))
        spares.refill()
        await using next = new Monitored(rig, { command })
        const [pid] = spares.waiting
        assert.equal(await runsToItsEnd(next, spares), pid)
      }
    })

    test('bad options are told as by a launched one', async (t) => {
      const spares = sparesOf(t, rig)
      await using box = new Monitored(rig, { command })
      const options = { ...box.options, createTimeoutMs: -1 }
      const { dir } = box
      const launching = launchMonitor({ program: rig.program, dir, options, linux, log: silentLog, spares })
      await assert.rejects(launching, { kind: 'internal', message: /option "createTimeoutMs"/ })
    })

    test('ten containers at once: one gets the spare, the others their own', async (t) => {
      const spares = sparesOf(t, rig)
      const [pid] = spares.waiting
      const boxes = Array.from({ length: 10 }, () => new Monitored(rig, { command }))
      try {
        const pids = await Promise.all(boxes.map((box) => runsToItsEnd(box, spares)))
        assert.equal(new Set(pids).size, 10)
        assert.equal(pids.filter((each) => each === pid).length, 1)
      } finally {
        for (const box of boxes) await box[Symbol.asyncDispose]()
      }
    })

    test('a daemon that is killed leaves none behind, nor does one that goes', async (t) => {
      const { path, args } = rig.program
      const keeper = spawn(process.execPath, [join(import.meta.dirname, 'testing/keep-spare.ts'), path, ...args], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const [said] = await once(keeper.stdout, 'data')
      const orphan = identityOf(Number(String(said)))
      keeper.kill('SIGKILL')
      assert.ok(await hasGone(orphan))
      const spares = sparesOf(t, rig)
      const left = identityOf(spares.waiting[0])
      spares.close()
      assert.ok(await hasGone(left))
    })
  })
}
