import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AdoptedChildren } from './adopted-children.ts'
import { drainPipes, OutputPipe } from './output-pipe.ts'
import { parentOf } from './proc.ts'
import { becomeSubreaper } from './reaper.ts'
import { runWithPipes } from './run-with-pipes.ts'

becomeSubreaper()
const children = new AdoptedChildren()
process.on('SIGCHLD', () => children.look())

const env = { PATH: '/usr/bin:/bin' }

/** A shell that starts the script in the background, prints its pid on stderr, and goes. */
async function starting(script: string, maxBytes = 1024 * 1024) {
  const stdout = new OutputPipe(maxBytes)
  const stderr = new OutputPipe(maxBytes)
  const pids: (number | undefined)[] = []
  const args = ['-c', `sh -c '${script}' & echo $! >&2`]
  const exit = await runWithPipes('/bin/sh', args, { children, env, stdout, stderr, started: (pid) => pids.push(pid) })
  return { stdout, stderr, exit, pids }
}

const pidIn = async (pipe: OutputPipe): Promise<number> => {
  while (pipe.seen === 0) await new Promise((next) => setTimeout(next, 5))
  return Number(pipe.bytes().toString())
}

test('what a program leaves is adopted: its output is read, its exit is taken', async () => {
  using _ = children.expect()
  const { stdout, stderr, exit, pids } = await starting('sleep 0.2; echo out > /dev/stdout; exit 7')
  assert.deepEqual(exit, { how: 'exited', code: 0 })
  assert.equal(pids.length, 1)
  const pid = await pidIn(stderr)
  assert.deepEqual(await children.wait(pid), { pid, how: 'exited', code: 7 })
  await drainPipes([stdout, stderr])
  assert.equal(stdout.bytes().toString(), 'out\n')
})

test('an exit that came before anybody asked is kept, one that nobody expects is only reaped', async () => {
  const expected = children.expect()
  // Its end must not come before its parent's: a shell may wait for what it leaves.
  const { stderr, stdout } = await starting('sleep 0.3; kill -KILL $$')
  const pid = await pidIn(stderr)
  // Not by our children: the program that left it may not be gone yet.
  while (parentOf(pid) !== undefined) {
    children.reap(new Set())
    await new Promise((next) => setTimeout(next, 20))
  }
  assert.deepEqual(await children.wait(pid), { pid, how: 'signaled', signal: 9, coreDumped: false })
  expected[Symbol.dispose]()
  // Somebody else has waited for it: nobody knows any more.
  assert.deepEqual(await children.wait(pid), { pid, how: 'exited', code: 255 })
  stdout.close()
  stderr.close()
})

test('reading ends though somebody holds the pipe, and keeps what fits', async () => {
  using _ = children.expect()
  const { stdout, stderr } = await starting('head -c 5000 /dev/zero; exec sleep 60', 1000)
  const pid = await pidIn(stderr)
  await drainPipes([stdout, stderr])
  assert.equal(stdout.bytes().length, 1000)
  assert.equal(stdout.seen, 5000)
  process.kill(pid, 'SIGKILL')
  assert.equal((await children.wait(pid)).how, 'signaled')
})

test('a program that cannot be started is an error', async () => {
  const stdout = new OutputPipe(10)
  const stderr = new OutputPipe(10)
  await assert.rejects(runWithPipes('/no/such/program', [], { children, env, stdout, stderr }), { code: 'ENOENT' })
  stdout.close()
  stderr.close()
})

test('a child that somebody else waits for is left to them', async () => {
  const { stderr } = await starting('sleep 0.1; exit 3')
  const pid = await pidIn(stderr)
  const left = children.leave(pid)
  await new Promise((next) => setTimeout(next, 200))
  children.reap(new Set())
  left[Symbol.dispose]()
  using _ = children.expect()
  assert.deepEqual(await children.wait(pid), { pid, how: 'exited', code: 3 })
})
