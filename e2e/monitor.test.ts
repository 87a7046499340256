/** A monitor that is killed: nobody drains its container any more, so the container must go, soon, and not as a success. */

import assert from 'node:assert/strict'
import { basename } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ContainerState } from '#proto/generated/api.ts'
import { useWorld, type World } from './harness.ts'
import { processesOf } from './leftovers.ts'
import {
  containerConfig,
  containerStatus,
  createContainer,
  podConfig,
  removePod,
  startPod,
  untilExited,
} from './pods.ts'

const IDLE = ['sleep', '1000']

/** The monitor of a container: the process that was started with its state directory. */
async function monitorOf({ site, runtime }: World, containerId: string): Promise<number> {
  const all = await processesOf(site, [runtime.pid])
  const isMonitor = ({ name }: { name: string }) =>
    name.split(' ').some((word) => basename(word) === containerId && word.startsWith('/')) && !name.includes('runc')
  const [found] = all.filter(isMonitor)
  assert.ok(found, `no monitor of ${containerId} among:\n${all.map(({ name }) => name).join('\n')}`)
  return found.pid
}

const sleepers = async (world: World) =>
  (await processesOf(world.site, [world.runtime.pid])).filter(({ name }) => name === IDLE.join(' '))

describe('a monitor that is killed', () => {
  const world = useWorld()

  it('while its container runs: known within a second, 255 MonitorLost, nothing left', async (t) => {
    const pod = await startPod(
      world.cri,
      await podConfig(world.site, 'lost'),
      containerConfig('main', world.image, IDLE),
    )
    const neighbour = await startPod(
      world.cri,
      await podConfig(world.site, 'near'),
      containerConfig('main', world.image, IDLE),
    )
    assert.equal((await sleepers(world)).length, 2)
    const monitor = await monitorOf(world, pod.containerId)
    const killed = BigInt(Date.now()) * 1_000_000n
    process.kill(monitor, 'SIGKILL')
    await untilExited(world.cri, pod.containerId)
    const status = await containerStatus(world.cri, pod.containerId)
    assert.deepEqual([status.exitCode, status.reason], [255, 'MonitorLost'])
    // By the daemon's clock: how long the question takes that tells us is another matter.
    const ms = Number(status.finishedAt - killed) / 1e6
    t.diagnostic(`known after ${ms.toFixed(0)} ms`)
    assert.ok(ms < 1000, `known after ${ms} ms`)
    assert.equal((await sleepers(world)).length, 1)
    assert.equal((await containerStatus(world.cri, neighbour.containerId)).state, ContainerState.CONTAINER_RUNNING)
    // The kubelet then starts the next attempt in the same pod.
    const next = { ...containerConfig('main', world.image, IDLE), metadata: { name: 'main', attempt: 1 } }
    const containerId = await createContainer(world.cri, pod.sandboxId, pod.sandbox, next)
    await world.cri.runtime.startContainer({ containerId })
    await removePod(world.cri, pod.sandboxId)
    await removePod(world.cri, neighbour.sandboxId)
    await world.assertNothingLeft()
  })

  it('before the start: the container cannot be started, and can be removed', async () => {
    const sandbox = await podConfig(world.site, 'unstarted')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    const config = containerConfig('main', world.image, IDLE)
    const containerId = await createContainer(world.cri, podSandboxId, sandbox, config)
    process.kill(await monitorOf(world, containerId), 'SIGKILL')
    await untilExited(world.cri, containerId)
    await assert.rejects(world.cri.runtime.startContainer({ containerId }))
    assert.equal((await containerStatus(world.cri, containerId)).exitCode, 255)
    await removePod(world.cri, podSandboxId)
    await world.assertNothingLeft()
  })

  it('while the daemon is away: the next one finds out', async () => {
    const pod = await startPod(
      world.cri,
      await podConfig(world.site, 'away'),
      containerConfig('main', world.image, IDLE),
    )
    const monitor = await monitorOf(world, pod.containerId)
    await world.runtime.kill()
    process.kill(monitor, 'SIGKILL')
    await world.runtime.start()
    await untilExited(world.cri, pod.containerId)
    const status = await containerStatus(world.cri, pod.containerId)
    assert.deepEqual([status.exitCode, status.reason], [255, 'MonitorLost'])
    assert.equal((await sleepers(world)).length, 0)
    await removePod(world.cri, pod.sandboxId)
    await world.assertNothingLeft()
  })
})

describe('a daemon that dies while a container starts', () => {
  const world = useWorld()

  for (const moment of [2, 6, 10, 14, 18, 25]) {
    it(`${moment} ms after the request: the next one knows the true time of the start`, async () => {
      const sandbox = await podConfig(world.site, `times-${moment}`)
      const config = containerConfig('main', world.image, IDLE)
      const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
      const containerId = await createContainer(world.cri, podSandboxId, sandbox, config)
      const begin = BigInt(Date.now()) * 1_000_000n
      const starting = world.cri.runtime.startContainer({ containerId }).catch(() => undefined)
      await sleep(moment)
      await world.runtime.kill()
      await starting
      await sleep(500)
      const end = BigInt(Date.now()) * 1_000_000n
      await sleep(50)
      await world.runtime.start()
      const { state, startedAt } = await containerStatus(world.cri, containerId)
      const isUp = (await sleepers(world)).length === 1
      assert.equal(state, isUp ? ContainerState.CONTAINER_RUNNING : ContainerState.CONTAINER_CREATED)
      if (isUp) assert.ok(startedAt >= begin && startedAt <= end, 'between the request and the death of the daemon')
      await removePod(world.cri, podSandboxId)
      await world.assertNothingLeft()
    })
  }
})
