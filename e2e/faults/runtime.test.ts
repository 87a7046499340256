/** What the OCI runtime can do wrong (rows H1 to H5, K10, C8): the daemon stays quick, tells what happened, loses nothing. */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readFile, rename } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { ContainerState, LinuxContainerResources } from '#proto/generated/api.ts'
import { CriError, failsWith } from '../cri-client.ts'
import { cricketProgram } from '../cricket.ts'
import { processesOf } from '../leftovers.ts'
import { containerStatus, createContainer, startPod, until, untilExited } from '../pods.ts'
import { Runtime } from '../runtime.ts'
import { assertQuick, hostContainer, hostPod, IDLE, useFaultyWorld } from './faulty-world.ts'

describe('an OCI runtime', () => {
  const faulty = useFaultyWorld()
  const { world, standIns } = faulty
  const { runtime } = standIns

  const aPod = async (name: string) => {
    const sandbox = await hostPod(world, name)
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    return { sandbox, podSandboxId }
  }
  const sleepers = async () => (await processesOf(world.site, [])).filter(({ name }) => name === IDLE.join(' ')).length
  const called = (verb: string, count: number) =>
    until(`'${verb}' is called`, 10_000, async () => ((await runtime.calls(verb)).length >= count ? true : undefined))

  it('H1: whose create hangs holds up neither readers nor other pods, and one container comes of all retries', async () => {
    const neighbour = await startPod(world.cri, await hostPod(world, 'neighbour'), hostContainer(world))
    const { sandbox, podSandboxId } = await aPod('hanging')
    await runtime.misbehave({ create: { hang: true } })
    const config = hostContainer(world)
    const request = { podSandboxId, config, sandboxConfig: sandbox }
    for (let retry = 0; retry < 3; retry++) {
      const call = world.cri.runtime.createContainer(request, { timeoutMs: 700 })
      await assert.rejects(call, failsWith(status.DEADLINE_EXCEEDED))
      await assertQuick(world.cri)
    }
    const exec = { containerId: neighbour.containerId, cmd: ['true'], timeout: 10n }
    assert.equal((await world.cri.runtime.execSync(exec)).exitCode, 0)
    const { containers } = await world.cri.runtime.listContainers({})
    assert.deepEqual(
      containers.map(({ id }) => id),
      [neighbour.containerId],
    )
    const last = world.cri.runtime.createContainer(request)
    await runtime.heal()
    const { containerId } = await last
    await world.cri.runtime.startContainer({ containerId })
    await until('both containers run', 5000, async () => ((await sleepers()) === 2 ? true : undefined))
    await faulty.assertAllGoes()
  })

  it('H1: whose create takes longer than its handler allows is killed, and a retry succeeds', async () => {
    const sandbox = await hostPod(world, 'hasty')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox, runtimeHandler: 'hasty' })
    await runtime.misbehave({ create: { hang: true } })
    const late = createContainer(world.cri, podSandboxId, sandbox, hostContainer(world))
    await assert.rejects(late, failsWith(status.DEADLINE_EXCEEDED))
    assert.deepEqual((await world.cri.runtime.listContainers({})).containers, [])
    await runtime.heal()
    const containerId = await createContainer(world.cri, podSandboxId, sandbox, hostContainer(world))
    await world.cri.runtime.startContainer({ containerId })
    await faulty.assertAllGoes()
  })

  it('H1: whose start hangs holds up nobody else', async () => {
    const { sandbox, podSandboxId } = await aPod('start')
    const containerId = await createContainer(world.cri, podSandboxId, sandbox, hostContainer(world))
    await runtime.misbehave({ start: { hang: true } })
    const late = world.cri.runtime.startContainer({ containerId }, { timeoutMs: 700 })
    await assert.rejects(late, failsWith(status.DEADLINE_EXCEEDED))
    await assertQuick(world.cri)
    await runtime.heal()
    await until('the start has taken place', 10_000, async () =>
      (await containerStatus(world.cri, containerId)).state === ContainerState.CONTAINER_RUNNING ? true : undefined,
    )
    await faulty.assertAllGoes()
  })

  it('H1: whose update hangs holds up other updates of that container only, which can be stopped', async () => {
    const pod = await startPod(world.cri, await hostPod(world, 'update'), hostContainer(world))
    const neighbour = await startPod(world.cri, await hostPod(world, 'neighbour'), hostContainer(world))
    const linux = LinuxContainerResources.fromPartial({ cpuShares: 333n })
    await runtime.misbehave({ update: { hang: true, only: pod.containerId } })
    const update = { containerId: pod.containerId, linux }
    const late = world.cri.runtime.updateContainerResources(update, { timeoutMs: 1000 })
    await assert.rejects(late, failsWith(status.DEADLINE_EXCEEDED))
    await assertQuick(world.cri)
    await world.cri.runtime.updateContainerResources({ containerId: neighbour.containerId, linux })
    await world.cri.runtime.stopContainer({ containerId: pod.containerId, timeout: 0n })
    assert.equal((await containerStatus(world.cri, pod.containerId)).exitCode, 137)
    await faulty.assertAllGoes()
  })

  it('H1: whose delete hangs keeps the container on the list until a later removal succeeds', async () => {
    const pod = await startPod(world.cri, await hostPod(world, 'delete'), hostContainer(world))
    await runtime.misbehave({ delete: { hang: true } })
    const { containerId } = pod
    const late = world.cri.runtime.removeContainer({ containerId }, { timeoutMs: 1500 })
    await assert.rejects(late, failsWith(status.DEADLINE_EXCEEDED))
    await assertQuick(world.cri)
    assert.equal((await untilExited(world.cri, containerId)).exitCode, 137)
    await runtime.heal()
    await world.cri.runtime.removeContainer({ containerId })
    await faulty.assertAllGoes()
  })

  it('H1, K1: that hangs in create while the daemon dies leaves no container behind the back of the next one', async () => {
    const { sandbox, podSandboxId } = await aPod('orphan')
    await runtime.misbehave({ create: { hang: true } })
    const before = (await runtime.calls('create')).length
    const config = hostContainer(world)
    const call = createContainer(world.cri, podSandboxId, sandbox, config).catch(() => undefined)
    await called('create', before + 1)
    await world.runtime.kill()
    await call
    await world.runtime.start()
    await runtime.heal()
    assert.deepEqual((await world.cri.runtime.listContainers({})).containers, [])
    const containerId = await createContainer(world.cri, podSandboxId, sandbox, config)
    await world.cri.runtime.startContainer({ containerId })
    await until('one container runs', 5000, async () => ((await sleepers()) === 1 ? true : undefined))
    await faulty.assertAllGoes()
  })

  const words: [string, Parameters<typeof runtime.misbehave>[0]['create'], RegExp][] = [
    ['nothing', { exit: 1 }, /exit code 1/],
    ['100 MiB', { exit: 1, stderrBytes: 100 * 1024 * 1024 }, /xxx/],
    ['bytes that are no text', { exit: 1, stderr: '\u001b[31mred\u0000\u00ff\u00fe\u2028 alert\u0007' }, /red .*alert/],
    ['JSON', { exit: 1, stderr: '{"level":"error","msg":"in json"}' }, /in json/],
    ['its log line', { exit: 1, stderr: 'time="x" level=fatal msg="no \\"such\\" luck"' }, /no .*such.* luck/],
    ['what is not true', { exit: 1, stderr: 'container not running: no such process' }, /no such process/],
    ['its last word when it is killed', { signal: 'SIGKILL' }, /SIGKILL|signal 9/],
    ['success, and makes no container', { exit: 0 }, /pid/],
    ['success, with an empty pid file', { pidFile: '' }, /pid/],
    ['success, with garbage for a pid', { pidFile: 'one\n' }, /pid/],
    ['success, with pid 0', { pidFile: '0' }, /pid/],
    ['success, with pid -1', { pidFile: '-1' }, /pid/],
  ]
  for (const [what, fault, message] of words) {
    it(`H2, H3, H4: that says ${what} fails the creation cleanly`, async () => {
      const { sandbox, podSandboxId } = await aPod('words')
      await runtime.misbehave({ create: fault ?? {} })
      const error = await createContainer(world.cri, podSandboxId, sandbox, hostContainer(world)).catch((e) => e)
      assert.ok(error instanceof CriError, String(error))
      assert.ok([status.INTERNAL, status.FAILED_PRECONDITION].includes(error.code), error.message)
      assert.match(error.details, message)
      assert.ok(Buffer.byteLength(error.details) <= 4096 + 512, `${Buffer.byteLength(error.details)} bytes`)
      assert.doesNotMatch(error.details, /[\u0000-\u001f\u007f-\u009f]/)
      await runtime.heal()
      assert.deepEqual((await world.cri.runtime.listContainers({})).containers, [])
      const containerId = await createContainer(world.cri, podSandboxId, sandbox, hostContainer(world))
      await world.cri.runtime.startContainer({ containerId })
      await faulty.assertAllGoes()
    })
  }

  it('H3: that names a process which is not of the container does no harm to it', async () => {
    const bystander = spawn('/bin/sleep', ['1000'], { stdio: 'ignore' })
    try {
      for (const pidFile of [String(bystander.pid), '1']) {
        const { sandbox, podSandboxId } = await aPod('bystander')
        await runtime.misbehave({ create: { pidFile } })
        await assert.rejects(
          createContainer(world.cri, podSandboxId, sandbox, hostContainer(world)),
          failsWith(status.FAILED_PRECONDITION, /pid/),
        )
        await faulty.assertAllGoes()
        assert.equal(bystander.exitCode ?? bystander.signalCode, null, 'the process lives')
      }
    } finally {
      bystander.kill('SIGKILL')
    }
  })

  it('H4: that is killed after it has made the container leaves none', async () => {
    const { sandbox, podSandboxId } = await aPod('midway')
    await runtime.misbehave({ create: { after: true, signal: 'SIGKILL' } })
    await assert.rejects(createContainer(world.cri, podSandboxId, sandbox, hostContainer(world)), /SIGKILL|signal/)
    await runtime.heal()
    assert.deepEqual((await world.cri.runtime.listContainers({})).containers, [])
    await faulty.assertAllGoes()
  })

  it('H2: that fails to start a container leaves it exited with the reason', async () => {
    const { sandbox, podSandboxId } = await aPod('no-start')
    const containerId = await createContainer(world.cri, podSandboxId, sandbox, hostContainer(world))
    await runtime.misbehave({ start: { exit: 1, stderr: 'no start today' } })
    await assert.rejects(world.cri.runtime.startContainer({ containerId }), /no start today/)
    const exited = await untilExited(world.cri, containerId)
    assert.deepEqual([exited.exitCode, exited.reason], [128, 'StartError'])
    assert.match(exited.message, /no start today/)
    await faulty.assertAllGoes()
  })

  it('H2: whose delete fails with words that are not true makes the removal fail, not lie', async () => {
    const pod = await startPod(world.cri, await hostPod(world, 'liar'), hostContainer(world))
    await runtime.misbehave({ delete: { exit: 1, stderr: 'container does not exist' } })
    const { containerId } = pod
    await assert.rejects(world.cri.runtime.removeContainer({ containerId }), /does not exist/)
    await runtime.heal()
    await world.cri.runtime.removeContainer({ containerId })
    await faulty.assertAllGoes()
  })

  it('H5: that is missing is reported, fails calls at once, and is found again', async () => {
    const pod = await startPod(world.cri, await hostPod(world, 'missing'), hostContainer(world))
    await rename(runtime.path, `${runtime.path}.away`)
    try {
      const { status: node } = await world.cri.runtime.status({})
      const ready = node?.conditions.find(({ type }) => type === 'RuntimeReady')
      assert.equal(ready?.status, false)
      assert.match(ready?.message ?? '', new RegExp(runtime.path))
      const more = createContainer(world.cri, pod.sandboxId, pod.sandbox, hostContainer(world, 'more'))
      await assert.rejects(more, new RegExp(runtime.path))
      const exec = world.cri.runtime.execSync({ containerId: pod.containerId, cmd: ['true'], timeout: 5n })
      await assert.rejects(exec, failsWith(status.FAILED_PRECONDITION, new RegExp(runtime.path)))
      await assertQuick(world.cri)
    } finally {
      await rename(`${runtime.path}.away`, runtime.path)
    }
    await faulty.assertAllGoes()
  })

  it('H5: that hangs when asked for its features does not keep the daemon from starting', async () => {
    await runtime.misbehave({ features: { hang: true } })
    await world.runtime.stop()
    await world.runtime.start()
    await runtime.heal()
    await faulty.assertAllGoes()
  })

  it('H1: whose delete hangs does not keep the daemon from starting', async () => {
    const pod = await startPod(world.cri, await hostPod(world, 'restart'), hostContainer(world))
    await runtime.misbehave({ delete: { hang: true } })
    await world.cri.runtime.stopContainer({ containerId: pod.containerId, timeout: 0n })
    await world.runtime.kill()
    await world.runtime.start()
    assert.equal((await containerStatus(world.cri, pod.containerId)).exitCode, 137)
    await faulty.assertAllGoes()
  })

  it('H1, K1: whose delete hangs keeps only those waiting who want the container that has to be undone first', async () => {
    const { sandbox, podSandboxId } = await aPod('undone')
    const neighbour = await startPod(world.cri, await hostPod(world, 'goes-on'), hostContainer(world))
    const config = hostContainer(world)
    await world.runtime.stop()
    const dying = cricketProgram(world.site)
    const daemon = new Runtime({ ...dying, env: { ...dying.env, CRICKET_CRASH_POINT: 'CreateContainer/publish' } })
    await daemon.start()
    await assert.rejects(createContainer(daemon.cri, podSandboxId, sandbox, config), CriError)
    await runtime.misbehave({ delete: { hang: true } })
    const began = Date.now()
    await world.runtime.start()
    assert.ok(Date.now() - began < 30_000, 'long before the runtime is given up')
    await assertQuick(world.cri)
    const exec = { containerId: neighbour.containerId, cmd: ['true'], timeout: 10n }
    assert.equal((await world.cri.runtime.execSync(exec)).exitCode, 0)
    const request = { podSandboxId, config, sandboxConfig: sandbox }
    const early = world.cri.runtime.createContainer(request, { timeoutMs: 1000 })
    await assert.rejects(early, failsWith(status.DEADLINE_EXCEEDED))
    await runtime.heal()
    const { containerId } = await world.cri.runtime.createContainer(request)
    const { containers } = await world.cri.runtime.listContainers({})
    assert.deepEqual(containers.map(({ id }) => id).toSorted(), [containerId, neighbour.containerId].toSorted())
    await faulty.assertAllGoes()
  })

  it('K10: whose container dies right after its creation leaves it exited, not startable, removable', async () => {
    const { sandbox, podSandboxId } = await aPod('dead')
    await runtime.misbehave({ create: { killInit: true } })
    const containerId = await createContainer(world.cri, podSandboxId, sandbox, hostContainer(world))
    assert.equal((await untilExited(world.cri, containerId)).exitCode, 137)
    await assert.rejects(world.cri.runtime.startContainer({ containerId }), failsWith(status.FAILED_PRECONDITION))
    await world.cri.runtime.removeContainer({ containerId })
    await faulty.assertAllGoes()
  })

  it('C8: that cannot delete one container of a pod lets all others go, names the one, and a retry finishes', async () => {
    const { sandbox, podSandboxId } = await aPod('many')
    const ids: string[] = []
    for (let n = 0; n < 5; n++) {
      const containerId = await createContainer(world.cri, podSandboxId, sandbox, hostContainer(world, `c${n}`))
      await world.cri.runtime.startContainer({ containerId })
      ids.push(containerId)
    }
    const stuck = ids[2] ?? ''
    await runtime.misbehave({ delete: { only: stuck, exit: 1, stderr: 'stuck' } })
    await assert.rejects(world.cri.runtime.removePodSandbox({ podSandboxId }), new RegExp(`${stuck}.*stuck`))
    const { containers } = await world.cri.runtime.listContainers({})
    assert.deepEqual(
      containers.map(({ id }) => id),
      [stuck],
    )
    await runtime.heal()
    await world.cri.runtime.removePodSandbox({ podSandboxId })
    await faulty.assertAllGoes()
  })

  it('G2: and the daemon has said nothing of defects in all this', async () => {
    const log = await readFile(world.site.path('cricket.log'), 'utf8')
    assert.doesNotMatch(log, /Ending after a fault|unhandled/i)
  })
})
