import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { setAllCloexec } from './pipes.ts'
import { isAlive, type ProcessIdentity, processIdentity } from './proc.ts'
import { type CommandOptions, runCommand } from './run-command.ts'
import { scratch } from './testing/scratch.ts'

// The test runner may have been started with more descriptors than three.
setAllCloexec()

const shell = (script: string, options?: CommandOptions) => runCommand('/bin/sh', ['-c', script], options)

const eventually = async <T>(look: () => T | undefined): Promise<T> => {
  for (;;) {
    const seen = look()
    if (seen !== undefined) return seen
    await delay(5)
  }
}

/** The process whose pid a script writes to a file. */
const writtenTo = (path: string): Promise<ProcessIdentity> =>
  eventually(() =>
    existsSync(path) && readFileSync(path, 'utf8').endsWith('\n')
      ? processIdentity(Number(readFileSync(path, 'utf8')))
      : undefined,
  )

test('output, input and exit code', async () => {
  const { exit, stdout, stderr } = await shell('cat; echo err >&2; exit 3', { input: Buffer.from('in') })
  assert.deepEqual(exit, { how: 'exited', code: 3 })
  assert.equal(stdout.toString(), 'in')
  assert.equal(stderr.toString(), 'err\n')
  assert.deepEqual((await shell('kill -TERM $$')).exit, { how: 'signaled', signal: 15 })
})

test('no shell, no inherited environment, no open descriptors, directory "/"', async () => {
  const dangerous = '$(touch /tmp/x); `id` "\'\\'
  assert.equal((await runCommand('/bin/echo', [dangerous])).stdout.toString(), `${dangerous}\n`)
  const env = (await runCommand('/usr/bin/env', [])).stdout.toString()
  assert.equal(env, 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n')
  assert.equal((await runCommand('/usr/bin/env', [], { env: { A: 'b' } })).stdout.toString(), 'A=b\n')
  assert.equal((await runCommand('/bin/pwd', [])).stdout.toString(), '/\n')
  assert.equal((await runCommand('/bin/pwd', [], { cwd: '/usr' })).stdout.toString(), '/usr\n')
  // The fourth one is the directory that ls reads.
  assert.deepEqual((await runCommand('/bin/ls', ['/proc/self/fd'])).stdout.toString().trim().split('\n'), [
    '0',
    '1',
    '2',
    '3',
  ])
})

test('what cannot start says why', async () => {
  await assert.rejects(runCommand('/does-not-exist', []), { code: 'ENOENT' })
  await assert.rejects(runCommand('/etc/passwd', []), { code: 'EACCES' })
  await assert.rejects(runCommand('sh', []), { kind: 'internal' })
})

test('output beyond the limit is cut, and the program can still finish', async () => {
  const { exit, stdout, stderr } = await shell('head -c 5000000 /dev/zero; echo tail >&2; exit 4', { maxOutput: 1000 })
  assert.deepEqual(exit, { how: 'exited', code: 4 })
  assert.equal(stdout.length, 1000)
  assert.equal(stderr.toString(), 'tail\n')
})

test('a program that does not read its input is no failure', async () => {
  const { exit } = await shell('exit 0', { input: Buffer.alloc(4 * 1024 * 1024) })
  assert.deepEqual(exit, { how: 'exited', code: 0 })
})

test('at the deadline the whole process group dies', async (t) => {
  const file = join(scratch(t), 'pid')
  const running = shell(`trap '' TERM; (trap '' TERM; sleep 60) & echo $! > ${file}; wait`, { timeoutMs: 300 })
  const grandchild = await writtenTo(file)
  await assert.rejects(running, { kind: 'deadline-exceeded' })
  await eventually(() => (isAlive(grandchild) ? undefined : true))
})

test('on abort too; and nothing starts when it has been aborted before', async (t) => {
  const file = join(scratch(t), 'pid')
  const aborting = new AbortController()
  const running = shell(`sleep 60 & echo $! > ${file}; wait`, { signal: aborting.signal })
  const grandchild = await writtenTo(file)
  aborting.abort(new Error('why'))
  await assert.rejects(running, (error) => {
    assert.ok(error instanceof Error && error.cause instanceof Error)
    assert.equal(error.cause.message, 'why')
    return true
  })
  await eventually(() => (isAlive(grandchild) ? undefined : true))
  await assert.rejects(shell(`rm ${file}`, { signal: aborting.signal }), { kind: 'cancelled' })
  assert.ok(existsSync(file))
})

test('a daemon left behind does not hold up the result', async (t) => {
  const file = join(scratch(t), 'pid')
  const { exit, stdout } = await shell(`sleep 60 & echo $! > ${file}; head -c 200000 /dev/zero; exit 6`)
  assert.deepEqual(exit, { how: 'exited', code: 6 })
  assert.equal(stdout.length, 200_000)
  const daemon = await writtenTo(file)
  assert.ok(isAlive(daemon), 'it is not ours to kill')
  process.kill(daemon.pid, 'SIGKILL')
})

test('a deadline longer than a timer can be does not fire at once', async () => {
  const { exit } = await shell('exit 0', { timeoutMs: Number.MAX_SAFE_INTEGER })
  assert.deepEqual(exit, { how: 'exited', code: 0 })
})
