import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { watchOwnChildren } from './own-children.ts'
import { becomeSubreaper, type ChildExit, reapableChildren, reapOrphans, waitForChild } from './reaper.ts'

becomeSubreaper()
const own = watchOwnChildren()

/** Starts a shell that leaves a background process behind, and returns the orphan's pid. It lives long enough for the shell not to reap it. */
const orphan = async (script: string): Promise<number> => {
  const shell = spawn('/bin/sh', ['-c', `(sleep 0.2; ${script}) >/dev/null & echo $!`], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const [[output]] = await Promise.all([once(shell.stdout, 'data'), once(shell, 'exit')])
  return Number(String(output))
}

const reapUntil = async (pid: number): Promise<ChildExit> => {
  for (;;) {
    const exit = reapOrphans(own.pids()).find((each) => each.pid === pid)
    if (exit !== undefined) return exit
    await delay(5)
  }
}

test('orphans come to us and tell how they ended', async () => {
  const exited = await orphan('exit 7')
  assert.equal(waitForChild(exited), undefined)
  assert.deepEqual(await reapUntil(exited), { pid: exited, how: 'exited', code: 7 })
  const killed = await orphan("kill -KILL $(exec sh -c 'echo $PPID')")
  assert.deepEqual(await reapUntil(killed), { pid: killed, how: 'signaled', signal: 9, coreDumped: false })
  assert.throws(() => waitForChild(exited), { code: 'ECHILD', syscall: 'waitid' })
  assert.throws(() => waitForChild(1), { code: 'ECHILD' })
})

test('looking consumes nothing', async () => {
  const pid = await orphan('exit 3')
  while (!reapableChildren().includes(pid)) await delay(5)
  assert.ok(reapableChildren().includes(pid))
  assert.deepEqual(waitForChild(pid), { pid, how: 'exited', code: 3 })
  assert.ok(!reapableChildren().includes(pid))
})

test('children of libuv keep their exit codes while orphans are reaped all the time', async () => {
  const children: ChildProcess[] = []
  const exits: Promise<unknown>[] = []
  for (let index = 0; index < 20; index++) {
    const child = spawn('/bin/sh', ['-c', `(exit 9) & exit ${index}`], { stdio: 'ignore' })
    children.push(child)
    exits.push(once(child, 'exit'))
    // Zombies of libuv are there to be stolen: nothing has run its SIGCHLD handler in this tick.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10)
    reapOrphans(own.pids())
  }
  const all = await Promise.all(exits)
  assert.deepEqual(
    all,
    children.map((_, index) => [index, null]),
  )
  assert.deepEqual([...own.pids()], [])
})

test('without knowing them they would be stolen: the test above can fail', async () => {
  const child = spawn('/bin/sh', ['-c', 'exit 5'], { stdio: 'ignore' })
  let stolen: ChildExit[] = []
  // In one tick, or libuv would be first.
  for (let tries = 0; stolen.length === 0 && tries < 600; tries++) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50)
    stolen = reapOrphans(new Set())
  }
  assert.deepEqual(stolen, [{ pid: child.pid, how: 'exited', code: 5 }])
  // libuv never hears of this child again.
  child.unref()
})

test('a child that cannot start is not waited for', async () => {
  const watched = watchOwnChildren()
  const child = spawn('/does-not-exist', [], { stdio: 'ignore' })
  await once(child, 'error')
  assert.deepEqual([...watched.pids()], [])
  watched.close()
})

test('pids that are none', () => {
  for (const pid of [0, -1, 1.5]) assert.throws(() => waitForChild(pid), TypeError)
})
