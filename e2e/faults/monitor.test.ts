/** What a monitor can do wrong (rows H9, K8, K9): it never comes up, it dies or stops answering at any time. */

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { ContainerState, NamespaceMode } from '#proto/generated/api.ts'
import { CriError, failsWith } from '../cri-client.ts'
import { processesOf } from '../leftovers.ts'
import { containerStatus, createContainer, startPod, until, untilExited } from '../pods.ts'
import { assertQuick, hostContainer, hostPod, IDLE, sharedPod, useFaultyWorld } from './faulty-world.ts'
import type { MonitorMode } from './stand-ins.ts'

describe('a monitor', () => {
  const faulty = useFaultyWorld()
  const { world, standIns } = faulty

  /** Pids of the monitors of this site's containers. */
  const monitors = async (id = '') =>
    (await processesOf(world.site, []))
      .filter(({ name }) => /conmon .*state\/(containers|sandboxes)\//.test(name) && name.includes(id))
      .map(({ pid }) => pid)
  const theMonitor = async (id: string) => {
    const [pid, ...more] = await monitors(id)
    assert.ok(pid !== undefined && more.length === 0, 'there is one monitor')
    return pid
  }
  const noSleepers = () =>
    until('the container is dead', 5000, async () => {
      const left = (await processesOf(world.site, [])).filter(({ name }) => name === IDLE.join(' '))
      return left.length === 0 ? true : undefined
    })

  /** What the stand-in starts has nothing of the site in its name. */
  const helpers = () =>
    readdirSync('/proc').filter((name) => {
      if (!/^\d+$/.test(name)) return false
      try {
        return readFileSync(`/proc/${name}/cmdline`, 'latin1').startsWith('sleep\x00987654')
      } catch {
        return false
      }
    })

  const modes: [MonitorMode, string, RegExp][] = [
    ['exit', 'ends at once', /out of luck today/],
    ['flood', 'prints 10 MiB and ends', /ended at once/],
    ['silent', 'closes its line to the daemon', /ended at once|monitor/i],
    ['mute', 'says that it is ready and does not listen', /monitor/i],
    ['hang', 'hangs before it is ready', /not ready/],
  ]
  for (const [mode, what, message] of modes) {
    it(`H9: that ${what} fails the creation in time, and nothing of it is left`, async () => {
      const sandbox = await hostPod(world, 'launch')
      const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
      await standIns.monitor.be(mode)
      const call = createContainer(world.cri, podSandboxId, sandbox, hostContainer(world)).catch((e) => e)
      await assertQuick(world.cri)
      const error = await call
      assert.ok(error instanceof CriError, String(error))
      assert.match(error.details, message)
      assert.ok(Buffer.byteLength(error.details) <= 4096 + 512, `${Buffer.byteLength(error.details)} bytes`)
      await standIns.monitor.be('well')
      assert.deepEqual(helpers(), [], 'what the monitor had started is gone')
      assert.deepEqual((await world.cri.runtime.listContainers({})).containers, [])
      const containerId = await createContainer(world.cri, podSandboxId, sandbox, hostContainer(world))
      await world.cri.runtime.startContainer({ containerId })
      await faulty.assertAllGoes()
    })
  }

  it('K9: killed while the runtime creates makes the creation fail, and no container appears later', async () => {
    const sandbox = await hostPod(world, 'creating')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    for (const after of [false, true]) {
      await standIns.runtime.misbehave({ create: { hang: true, after } })
      const before = (await standIns.runtime.calls('create')).length
      const call = createContainer(world.cri, podSandboxId, sandbox, hostContainer(world))
      const failed = assert.rejects(call, CriError)
      await until('the runtime is called', 5000, async () =>
        (await standIns.runtime.calls('create')).length > before ? true : undefined,
      )
      for (const pid of await monitors()) process.kill(pid, 'SIGKILL')
      await failed
      await standIns.runtime.heal()
      assert.deepEqual((await world.cri.runtime.listContainers({})).containers, [])
    }
    const containerId = await createContainer(world.cri, podSandboxId, sandbox, hostContainer(world))
    await world.cri.runtime.startContainer({ containerId })
    await faulty.assertAllGoes()
  })

  it('K8: killed while its container runs takes the container with it, which is told as 255 MonitorLost', async () => {
    const pod = await startPod(world.cri, await hostPod(world, 'lost'), hostContainer(world))
    process.kill(await theMonitor(pod.containerId), 'SIGKILL')
    const exited = await untilExited(world.cri, pod.containerId, 5000)
    assert.deepEqual([exited.exitCode, exited.reason], [255, 'MonitorLost'])
    await noSleepers()
    await faulty.assertAllGoes()
  })

  it('K9: killed before the start makes the container exited, and the start fails', async () => {
    const sandbox = await hostPod(world, 'unstarted')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    const containerId = await createContainer(world.cri, podSandboxId, sandbox, hostContainer(world))
    process.kill(await theMonitor(containerId), 'SIGKILL')
    assert.equal((await untilExited(world.cri, containerId, 5000)).exitCode, 255)
    await assert.rejects(world.cri.runtime.startContainer({ containerId }), failsWith(status.FAILED_PRECONDITION))
    await faulty.assertAllGoes()
  })

  it('K9: killed with its container while no daemon runs leaves an exit of 255, never of 0', async () => {
    const pod = await startPod(world.cri, await hostPod(world, 'both'), hostContainer(world))
    const pid = await theMonitor(pod.containerId)
    await world.runtime.kill()
    process.kill(pid, 'SIGKILL')
    for (const { pid, name } of await processesOf(world.site, []))
      if (name === IDLE.join(' ')) process.kill(pid, 'SIGKILL')
    await world.runtime.start()
    const exited = await untilExited(world.cri, pod.containerId, 5000)
    assert.equal(exited.exitCode, 255)
    await faulty.assertAllGoes()
  })

  it('K9: stopped (SIGSTOP) does not keep its container from being stopped', async () => {
    const pod = await startPod(world.cri, await hostPod(world, 'frozen'), hostContainer(world))
    process.kill(await theMonitor(pod.containerId), 'SIGSTOP')
    await world.cri.runtime.stopContainer({ containerId: pod.containerId, timeout: 0n }, { timeoutMs: 40_000 })
    const exited = await containerStatus(world.cri, pod.containerId)
    assert.deepEqual([exited.exitCode, exited.reason], [255, 'MonitorLost'])
    await noSleepers()
    await faulty.assertAllGoes()
  })

  it('K9: stopped (SIGSTOP) while the daemon starts is told as it is, and its container can be stopped', async () => {
    const pod = await startPod(world.cri, await hostPod(world, 'restart'), hostContainer(world))
    process.kill(await theMonitor(pod.containerId), 'SIGSTOP')
    await world.runtime.kill()
    await world.runtime.start()
    await world.cri.runtime.stopContainer({ containerId: pod.containerId, timeout: 0n }, { timeoutMs: 40_000 })
    const exited = await containerStatus(world.cri, pod.containerId)
    assert.equal(exited.state, ContainerState.CONTAINER_EXITED)
    assert.equal(exited.exitCode, 255)
    await noSleepers()
    await faulty.assertAllGoes()
  })

  it('K11: of a sandbox init that is killed, or its init, makes the sandbox not ready; it stops and goes', async () => {
    for (const victim of ['init', 'monitor'] as const) {
      const sandbox = await sharedPod(world, 'shared')
      const container = hostContainer(world, 'main', IDLE, NamespaceMode.POD)
      const pod = await startPod(world.cri, sandbox, container)
      const init = (await processesOf(world.site, [])).find(({ name }) => name === '/init -P')
      assert.ok(init)
      process.kill(victim === 'init' ? init.pid : await theMonitor(pod.sandboxId), 'SIGKILL')
      await until('the sandbox is not ready', 5000, async () => {
        const { status } = await world.cri.runtime.podSandboxStatus({ podSandboxId: pod.sandboxId })
        return status?.state === 1 ? true : undefined
      })
      await world.cri.runtime.stopPodSandbox({ podSandboxId: pod.sandboxId })
      await faulty.assertAllGoes()
    }
  })
})
