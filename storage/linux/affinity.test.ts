/** Processors of threads and of children. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { affinityOf, setProcessAffinity, startedOn } from './affinity.ts'

const ALLOWED = 'grep Cpus_allowed_list /proc/self/status'

test('a child started on a processor runs there, and this thread where it ran before', () => {
  const before = affinityOf(0)
  const [cpu = 0] = before
  const { stdout } = startedOn([cpu], () => spawnSync('sh', ['-c', ALLOWED], { encoding: 'utf8' }))
  assert.equal(stdout, `Cpus_allowed_list:\t${cpu}\n`)
  assert.deepEqual(affinityOf(0), before)
})

test('this thread runs where it ran before when the start fails, or when it may not run there', () => {
  const before = affinityOf(0)
  const [cpu = 0] = before
  assert.throws(() =>
    startedOn([cpu], () => {
      throw new Error('no')
    }),
  )
  assert.equal(
    startedOn([8000], () => 'started'),
    'started',
  )
  assert.deepEqual(affinityOf(0), before)
})

test('a process is moved with all its threads, and one that is gone is no error', async () => {
  const [cpu = 0] = affinityOf(0)
  const child = spawn('sleep', ['100'])
  await once(child, 'spawn')
  const { pid = 0 } = child
  try {
    setProcessAffinity(pid, [cpu])
    assert.deepEqual(affinityOf(pid), new Set([cpu]))
    assert.throws(() => setProcessAffinity(pid, [8000]), { code: 'EINVAL' })
  } finally {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  setProcessAffinity(pid, [cpu])
})
