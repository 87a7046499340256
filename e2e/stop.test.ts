/** StopContainer against containers that do not want to end, and callers that change their mind. */

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { status } from '@grpc/grpc-js'
import { ContainerState, type DeepPartial, NamespaceMode, type PodSandboxConfig, Signal } from '#proto/generated/api.ts'
import { cgroupDirectory, isCgroupV2 } from './cgroup-files.ts'
import { failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { processesOf } from './leftovers.ts'
import { isPeer } from './peer.ts'
import {
  containerConfig,
  containerStatus,
  createContainer,
  podConfig,
  readLog,
  removePod,
  startPod,
  until,
  untilExited,
} from './pods.ts'

const IDLE = ['sleep', '1000']
const DEAF = ['sh', '-c', "trap '' TERM; echo up; while :; do sleep 0.1; done"]
const EXIT_7_ON_TERM = ['sh', '-c', "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"]

describe('a container is stopped', { skip: isPeer && 'ours' }, () => {
  const world = useWorld()

  const start = async (
    name: string,
    command: string[],
    overrides: Parameters<typeof containerConfig>[3] = {},
    pod: DeepPartial<PodSandboxConfig> = {},
  ) =>
    startPod(
      world.cri,
      await podConfig(world.site, name, pod),
      containerConfig('main', world.image, command, overrides),
    )
  const stop = (containerId: string, timeout: bigint, options = {}) =>
    world.cri.runtime.stopContainer({ containerId, timeout }, options)
  const isUp = ({ logPath }: { logPath: string }) =>
    until('it is up', 10_000, async () => ((await readLog(logPath)).length > 0 ? true : undefined))

  /** The file and the words of the freezer of a container, or of the parent of all. */
  const freezer = (containerId: string) => {
    const directory = cgroupDirectory(world.site, containerId, 'freezer')
    return isCgroupV2
      ? { file: join(directory, 'cgroup.freeze'), freeze: '1', thaw: '0' }
      : { file: join(directory, 'freezer.state'), freeze: 'FROZEN', thaw: 'THAWED' }
  }

  it('that is paused: thawed, and ended in good order', async (t) => {
    const pod = await start('paused', EXIT_7_ON_TERM)
    await isUp(pod)
    const { file, freeze } = freezer(pod.containerId)
    if (!existsSync(file)) return t.skip('host lacks the freezer')
    await writeFile(file, freeze)
    await stop(pod.containerId, 10n)
    assert.equal((await containerStatus(world.cri, pod.containerId)).exitCode, 7)
  })

  it('that is paused and killed at once', async (t) => {
    const pod = await start('paused-kill', IDLE)
    const { file, freeze } = freezer(pod.containerId)
    if (!existsSync(file)) return t.skip('host lacks the freezer')
    await writeFile(file, freeze)
    await stop(pod.containerId, 0n)
    assert.equal((await containerStatus(world.cri, pod.containerId)).exitCode, 137)
  })

  it('that not even SIGKILL reaches: the caller waits in vain, others are served, and the kill goes on', async (t) => {
    if (isCgroupV2) return t.skip('host lacks cgroup v1, whose frozen parent holds processes against SIGKILL')
    const pod = await start('stuck', IDLE)
    const { file, freeze, thaw } = freezer('.')
    await writeFile(file, freeze)
    try {
      await assert.rejects(stop(pod.containerId, 0n, { timeoutMs: 1500 }), failsWith(status.DEADLINE_EXCEEDED))
      assert.equal((await containerStatus(world.cri, pod.containerId)).state, ContainerState.CONTAINER_RUNNING)
      await assert.rejects(
        world.cri.runtime.removeContainer({ containerId: pod.containerId }, { timeoutMs: 1000 }),
        failsWith(status.DEADLINE_EXCEEDED),
      )
      assert.equal((await world.cri.runtime.listContainers({})).containers.length > 0, true)
    } finally {
      await writeFile(file, thaw)
    }
    assert.equal((await untilExited(world.cri, pod.containerId)).exitCode, 137)
    await world.cri.runtime.removeContainer({ containerId: pod.containerId })
  })

  it('with all its processes, though the pod has one process namespace', async () => {
    const namespaceOptions = { network: NamespaceMode.POD, pid: NamespaceMode.POD, ipc: NamespaceMode.POD }
    const tree = ['sh', '-c', 'sleep 5001 & (setsid sleep 5002 &) ; trap "" TERM; sleep 5003 & wait; sleep 5004']
    const pod = await start(
      'tree',
      tree,
      { linux: { securityContext: { namespaceOptions } } },
      { linux: { cgroupParent: world.site.cgroupParent, securityContext: { namespaceOptions } } },
    )
    const sleeping = async () => (await processesOf(world.site, [])).filter(({ name }) => /^sleep 500\d$/.test(name))
    await until('its tree is up', 5000, async () => ((await sleeping()).length >= 3 ? true : undefined))
    await stop(pod.containerId, 1n)
    assert.deepEqual(await sleeping(), [])
    await removePod(world.cri, pod.sandboxId)
  })

  it('sooner when a later caller is in a hurry; the first one is answered too', async () => {
    const pod = await start('shorter', DEAF)
    await isUp(pod)
    const began = performance.now()
    const first = stop(pod.containerId, 60n)
    await sleep(200)
    const calls = await Promise.all([first, stop(pod.containerId, 1n), stop(pod.containerId, 30n)])
    assert.equal(calls.length, 3)
    assert.ok(performance.now() - began < 20_000, 'a minute was not waited for')
    assert.equal((await containerStatus(world.cri, pod.containerId)).exitCode, 137)
  })

  it('though its caller goes away', async () => {
    const pod = await start('cancelled', DEAF)
    await isUp(pod)
    await assert.rejects(stop(pod.containerId, 1n, { timeoutMs: 200 }), failsWith(status.DEADLINE_EXCEEDED))
    assert.equal((await untilExited(world.cri, pod.containerId)).exitCode, 137)
  })

  it('by the signal that its configuration names', async () => {
    const command = ['sh', '-c', "trap 'exit 9' USR1; trap '' TERM; echo up; while :; do sleep 0.05; done"]
    const pod = await start('usr1', command, { stopSignal: Signal.SIGUSR1 })
    await isUp(pod)
    assert.equal((await containerStatus(world.cri, pod.containerId)).stopSignal, Signal.SIGUSR1)
    await stop(pod.containerId, 10n)
    assert.equal((await containerStatus(world.cri, pod.containerId)).exitCode, 9)
  })

  it('while it starts: it ends, and says so once', async () => {
    for (let round = 0; round < 10; round++) {
      const sandbox = await podConfig(world.site, `race-${round}`)
      const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
      const config = containerConfig('main', world.image, IDLE)
      const containerId = await createContainer(world.cri, podSandboxId, sandbox, config)
      const starting = world.cri.runtime.startContainer({ containerId }).then(
        () => 'started',
        () => 'refused',
      )
      await sleep(round)
      await stop(containerId, 0n)
      const outcome = await starting
      const end = await containerStatus(world.cri, containerId)
      assert.equal(end.state, ContainerState.CONTAINER_EXITED, outcome)
      assert.ok(end.exitCode === 137 || end.exitCode === 128, `exit code ${end.exitCode} after ${outcome}`)
      await sleep(100)
      assert.deepEqual(await containerStatus(world.cri, containerId), end)
      await assert.rejects(
        world.cri.runtime.startContainer({ containerId }),
        failsWith(status.FAILED_PRECONDITION, /exited/),
      )
      await removePod(world.cri, podSandboxId)
    }
  })
})
