/** ExecSync where it is not plain: output without end, children in the background, deadlines, containers that end. */

import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { isPeer } from './peer.ts'
import { containerConfig, createContainer, podConfig, startPod } from './pods.ts'

const IDLE = ['sleep', '1000']
const MESSAGE = 16 * 1024 * 1024

describe('ExecSync', { skip: isPeer && 'ours' }, () => {
  const world = useWorld()

  const start = async (name: string) =>
    startPod(world.cri, await podConfig(world.site, name), containerConfig('main', world.image, IDLE))
  const exec = (containerId: string, script: string, timeout = 20n, options = {}) =>
    world.cri.runtime.execSync({ containerId, cmd: ['sh', '-c', script], timeout }, options)
  const processes = async (containerId: string) => (await exec(containerId, 'ps -o args')).stdout.toString()

  it('leaves no file behind, whatever became of the command', async () => {
    const { containerId } = await start('tidy')
    const dir = join(world.site.path('state'), 'containers', containerId)
    const before = (await readdir(dir)).sort()
    await exec(containerId, 'exit 3')
    await assert.rejects(
      world.cri.runtime.execSync({ containerId, cmd: ['/no/such/program'], timeout: 5n }),
      failsWith(status.FAILED_PRECONDITION, /no\/such\/program/),
    )
    await assert.rejects(exec(containerId, 'sleep 100', 1n), failsWith(status.DEADLINE_EXCEEDED))
    assert.deepEqual((await readdir(dir)).sort(), before)
  })

  it('does not wait for what the command leaves in the background', async () => {
    const { containerId } = await start('background')
    const began = performance.now()
    const answer = await exec(containerId, 'echo done; sleep 400 & exit 0', 3n)
    assert.equal(answer.exitCode, 0)
    assert.equal(answer.stdout.toString(), 'done\n')
    assert.ok(performance.now() - began < 3000, 'the command had ended')
    assert.match(await processes(containerId), /sleep 400/)
    const late = await exec(containerId, '(sleep 0.05; echo later) & echo now', 10n)
    assert.equal(late.stdout.toString(), 'now\nlater\n', 'what comes at once is still read')
  })

  it('reads from children that write without end only for some seconds', async () => {
    const { containerId } = await start('endless')
    const answer = await exec(containerId, '(while echo x; do sleep 0.02; done) & echo begun', 30n)
    assert.equal(answer.exitCode, 0)
    assert.match(answer.stdout.toString(), /begun/)
  })

  it('cuts its output at what one message holds, and lets the command go on', async () => {
    const { containerId } = await start('flood')
    const script = 'head -c 17000000 /dev/zero; head -c 17000000 /dev/zero >&2; exit 7'
    const answer = await exec(containerId, script, 60n)
    assert.equal(answer.exitCode, 7)
    const total = answer.stdout.length + answer.stderr.length
    assert.ok(total > MESSAGE - 4096 && total < MESSAGE, `${total} bytes`)
  })

  it('ends everything the command started at its deadline, and nothing else', async () => {
    const { containerId } = await start('deadline')
    await exec(containerId, 'sleep 500 >/dev/null 2>&1 &')
    const tree = 'trap "" TERM; sleep 601 & (sleep 602; :) & (trap "" TERM; sh -c "sleep 603; :" & wait) & sleep 604'
    await assert.rejects(exec(containerId, tree, 1n), failsWith(status.DEADLINE_EXCEEDED, /longer than 1 s/))
    const left = await processes(containerId)
    assert.doesNotMatch(left, /sleep 60/)
    assert.match(left, /sleep 500/)
    assert.match(left, /sleep 1000/)
  })

  it('ends the command when its caller goes away', async () => {
    const { containerId } = await start('cancel')
    const caller = new AbortController()
    const call = exec(containerId, 'sleep 701 & sleep 702', 0n, { signal: caller.signal })
    while (!(await processes(containerId)).includes('sleep 702')) await new Promise((next) => setTimeout(next, 50))
    caller.abort()
    await assert.rejects(call, failsWith(status.CANCELLED))
    const deadline = Date.now() + 5000
    while ((await processes(containerId)).includes('sleep 70') && Date.now() < deadline)
      await new Promise((next) => setTimeout(next, 50))
    assert.doesNotMatch(await processes(containerId), /sleep 70/)
  })

  it('is told when its container ends under it, and refused when it does not run', async () => {
    const pod = await start('ending')
    const call = exec(pod.containerId, 'sleep 801', 30n)
    while (!(await processes(pod.containerId)).includes('sleep 801')) await new Promise((next) => setTimeout(next, 50))
    await world.cri.runtime.stopContainer({ containerId: pod.containerId, timeout: 0n })
    assert.equal((await call).exitCode, 137)
    await assert.rejects(exec(pod.containerId, 'true'), failsWith(status.FAILED_PRECONDITION, /exited/))
    const second = containerConfig('second', world.image, IDLE)
    const created = await createContainer(world.cri, pod.sandboxId, pod.sandbox, second)
    await assert.rejects(exec(created, 'true'), failsWith(status.FAILED_PRECONDITION, /created/))
    await assert.rejects(exec('0'.repeat(64), 'true'), failsWith(status.NOT_FOUND))
  })
})
