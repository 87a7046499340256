import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { openPidfd, sendPidfdSignal, signalProcess } from './pidfd.ts'
import { bootId, childrenOf, isAlive, isZombie, parentOf, processIdentity } from './proc.ts'
import { scratch } from './testing/scratch.ts'

const start = (t: TestContext, path: string, args: string[]): ChildProcess & { pid: number } => {
  const child = spawn(path, args, { stdio: ['ignore', 'pipe', 'ignore'] })
  t.after(() => child.kill('SIGKILL'))
  const { pid } = child
  assert.ok(pid !== undefined)
  return Object.assign(child, { pid })
}

const identityOf = (pid: number) => {
  const identity = processIdentity(pid)
  assert.ok(identity !== undefined)
  return identity
}

test('identity, parent and children, whatever the program is called', async (t) => {
  const odd = join(scratch(t), ') Z 1 (x')
  copyFileSync('/bin/sleep', odd)
  const child = start(t, odd, ['60'])
  const identity = identityOf(child.pid)
  assert.ok(identity.startTime >= identityOf(process.pid).startTime)
  assert.equal(isAlive(identity), true)
  assert.equal(isAlive({ ...identity, startTime: identity.startTime + 1n }), false)
  assert.equal(parentOf(child.pid), process.pid)
  assert.deepEqual(childrenOf(process.pid), [child.pid])
  assert.deepEqual(childrenOf(child.pid), [])
  child.kill('SIGKILL')
  await once(child, 'exit')
  assert.equal(isAlive(identity), false)
  assert.equal(processIdentity(child.pid), undefined)
  assert.equal(parentOf(child.pid), undefined)
  assert.deepEqual(childrenOf(child.pid), [])
})

test('a zombie is dead, and cannot be signalled', async (t) => {
  // The shell becomes a program that does not wait for its child, before the child ends.
  const child = start(t, '/bin/sh', ['-c', 'sleep 0.2 & echo $!; exec sleep 60'])
  const [output] = await once(child.stdout ?? child, 'data')
  const pid = Number(String(output))
  while (!isZombie(pid)) await delay(5)
  const identity = identityOf(pid)
  assert.equal(isAlive(identity), false)
  assert.equal(signalProcess(identity, 9), false)
  assert.deepEqual(childrenOf(child.pid), [pid])
})

test('a process whose first thread has ended lives while another runs', async (t) => {
  const module = JSON.stringify(new URL('./sys.ts', import.meta.url).href)
  // exit(2), not exit_group(2): only the calling thread ends, and Node has others.
  const code = `import { rawSys } from ${module}; process.stdout.write('x', () => rawSys(process.arch === 'arm64' ? 93 : 60, 0))`
  const child = start(t, process.execPath, ['--input-type=module', '-e', code])
  while (!readFileSync(`/proc/${child.pid}/stat`, 'utf8').includes(') Z ')) await delay(5)
  const identity = identityOf(child.pid)
  assert.equal(isAlive(identity), true)
  assert.equal(isZombie(child.pid), false)
  assert.equal(signalProcess(identity, 9), true)
  assert.deepEqual(await once(child, 'exit'), [null, 'SIGKILL'])
})

test('a signal reaches the process it is meant for and no other', async (t) => {
  const child = start(t, '/bin/sleep', ['60'])
  const identity = identityOf(child.pid)
  assert.equal(signalProcess({ ...identity, startTime: identity.startTime - 1n }, 9), false)
  assert.equal(isAlive(identity), true)
  assert.equal(signalProcess(identity, 15), true)
  assert.deepEqual(await once(child, 'exit'), [null, 'SIGTERM'])
  assert.equal(signalProcess(identity, 15), false)
  assert.throws(() => openPidfd(child.pid), { code: 'ESRCH', syscall: 'pidfd_open' })
})

test('a pidfd stays with its process after it has been reaped', async (t) => {
  const child = start(t, '/bin/sleep', ['60'])
  const pidfd = openPidfd(child.pid)
  assert.equal(sendPidfdSignal(pidfd, 9), true)
  await once(child, 'exit')
  assert.equal(sendPidfdSignal(pidfd, 9), false)
  closeSync(pidfd)
})

test('pids that are none', () => {
  for (const pid of [0, -1, 1.5, Number.NaN]) assert.throws(() => processIdentity(pid), TypeError)
})

test('the boot has an id', () => assert.match(bootId(), /^[0-9a-f-]{36}$/))
