/** What a daemon owes its containers when it dies: they go on, and the next daemon tells the truth about them. */

import assert from 'node:assert/strict'
import { mkdir, stat, writeFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Container, ContainerState, type ContainerStatus, type PodSandboxStatus } from '#proto/generated/api.ts'
import { useWorld, type World } from './harness.ts'
import { processesOf } from './leftovers.ts'
import {
  containerConfig,
  containerStatus,
  createContainer,
  podConfig,
  type RunningPod,
  readLog,
  removeAllPods,
  removePod,
  startPod,
  until,
  untilExited,
} from './pods.ts'

const IDLE = ['sleep', '1000']
/** Counts on stdout until it is told to stop, then exits with 3. */
const COUNT = ['sh', '-c', "trap 'echo end; exit 3' TERM; n=0; while :; do n=$((n+1)); echo $n; sleep 0.1; done"]
/** Logs, does this once there is a file, logs and ends with this code. */
const endOnceTold = (act: string, code: number) => [
  'sh',
  '-c',
  `echo begun; until [ -e /told/now ]; do sleep 0.05; done; ${act}; echo ended; exit ${code}`,
]
/** As many lines as a busy container writes while its daemon is replaced. */
const BUSY_LINES = 100_000

/** All that a client can read about a runtime's objects, in a fixed order. */
async function readAll({ cri }: World) {
  const { items } = await cri.runtime.listPodSandbox({})
  const { containers } = await cri.runtime.listContainers({})
  const { images } = await cri.images.listImages({})
  const statuses = await Promise.all(items.map(({ id }) => cri.runtime.podSandboxStatus({ podSandboxId: id })))
  const byId = (a: { id: string }, b: { id: string }) => a.id.localeCompare(b.id)
  return {
    items: items.toSorted(byId),
    containers: containers.toSorted(byId),
    images: images.toSorted(byId),
    sandboxes: statuses
      .map(({ status }) => status)
      .filter((status): status is PodSandboxStatus => !!status)
      .toSorted(byId),
    statuses: await Promise.all(containers.toSorted(byId).map(({ id }) => containerStatus(cri, id))),
  }
}

/** Numbers of a counting container's log; fails on a missing or repeated one. */
async function countedIn(pod: RunningPod): Promise<number> {
  const numbers = (await readLog(pod.logPath)).map(({ content }) => content).filter((content) => content !== 'end')
  assert.deepEqual(
    numbers,
    numbers.map((_, index) => String(index + 1)),
    'no line is missing or doubled',
  )
  return numbers.length
}

describe('a daemon killed while twenty pods run', () => {
  const world = useWorld({ oneStory: true })
  const lasting: RunningPod[] = []
  const ending: RunningPod[] = []
  let before: Awaited<ReturnType<typeof readAll>>
  let killedAt = 0n

  let crowded: RunningPod
  let busy: RunningPod

  it('has twenty-two pods, of which seven are about to end', async () => {
    await mkdir(world.site.path('told'))
    const mounts = [{ containerPath: '/told', hostPath: world.site.path('told'), readonly: true }]
    const startEnding = async (name: string, command: string[], memoryLimitInBytes = 134_217_728n) => {
      const linux = { resources: { memoryLimitInBytes, oomScoreAdj: 1000n } }
      const config = containerConfig('main', world.image, command, { mounts, linux })
      return startPod(world.cri, await podConfig(world.site, name), config)
    }
    for (let n = 0; n < 15; n++) {
      const sandbox = await podConfig(world.site, `lasting-${n}`)
      lasting.push(await startPod(world.cri, sandbox, containerConfig('main', world.image, COUNT)))
    }
    for (let n = 0; n < 5; n++) ending.push(await startEnding(`ending-${n}`, endOnceTold('true', 10 + n)))
    crowded = await startEnding('crowded', endOnceTold('head -c 100000000 /dev/zero | tail; exit $?', 0), 16_777_216n)
    busy = await startEnding('busy', endOnceTold(`seq ${BUSY_LINES}`, 0))
    before = await readAll(world)
    assert.equal(before.containers.filter(({ state }) => state === ContainerState.CONTAINER_RUNNING).length, 22)
  })

  it('dies, and the containers go on', async () => {
    killedAt = BigInt(Date.now()) * 1_000_000n
    await world.runtime.kill()
    const counted = await Promise.all(lasting.map(countedIn))
    await writeFile(world.site.path('told/now'), '')
    // They end with nobody to see it; each leaves a word of it.
    for (const { containerId } of [...ending, crowded, busy]) {
      const record = world.site.path('state/containers', containerId, 'exit.json')
      await until('it has ended', 30_000, async () =>
        (await stat(record).catch(() => undefined))?.size ? true : undefined,
      )
    }
    await sleep(500)
    for (const [index, pod] of lasting.entries()) {
      assert.ok((await countedIn(pod)) > (counted[index] ?? 0), `pod ${index} counts on`)
    }
  })

  it('is followed by one that lists the same objects', async () => {
    await world.runtime.start()
    const now = await readAll(world)
    const ended = new Set([...ending, crowded, busy].map(({ containerId }) => containerId))
    const same = (container: Container | ContainerStatus) => !ended.has(container.id)
    assert.deepEqual(now.items, before.items)
    assert.deepEqual(now.sandboxes, before.sandboxes)
    assert.deepEqual(now.images, before.images)
    assert.deepEqual(now.containers.filter(same), before.containers.filter(same))
    assert.deepEqual(now.statuses.filter(same), before.statuses.filter(same))
  })

  it('that knows how and when those ended that ended meanwhile', async () => {
    const restartedAt = BigInt(Date.now()) * 1_000_000n
    for (const [index, pod] of ending.entries()) {
      const status = await containerStatus(world.cri, pod.containerId)
      assert.equal(status.state, ContainerState.CONTAINER_EXITED)
      assert.equal(status.exitCode, 10 + index)
      assert.equal(status.reason, 'Error')
      assert.ok(status.finishedAt > killedAt && status.finishedAt < restartedAt, `pod ${index} ended in between`)
      const contents = (await readLog(pod.logPath)).map(({ content }) => content)
      assert.deepEqual(contents, ['begun', 'ended'])
    }
  })

  it('that knows who ran out of memory meanwhile, and has all that was written', async () => {
    const killed = await containerStatus(world.cri, crowded.containerId)
    assert.deepEqual([killed.reason, killed.exitCode], ['OOMKilled', 137])
    const contents = (await readLog(busy.logPath)).map(({ content }) => content)
    assert.deepEqual(contents, ['begun', ...Array.from({ length: BUSY_LINES }, (_, n) => String(n + 1)), 'ended'])
  })

  it('and works with all of them: exec, stop, exit, new containers', async () => {
    const [first, second, third] = lasting
    assert.ok(first && second && third)
    const exec = await world.cri.runtime.execSync({ containerId: first.containerId, cmd: ['echo', 'hi'], timeout: 10n })
    assert.equal(exec.stdout.toString(), 'hi\n')
    await world.cri.runtime.stopContainer({ containerId: first.containerId, timeout: 10n })
    assert.equal((await containerStatus(world.cri, first.containerId)).exitCode, 3)
    await countedIn(first)
    assert.equal((await readLog(first.logPath)).at(-1)?.content, 'end')
    await world.cri.runtime.execSync({ containerId: second.containerId, cmd: ['kill', '-TERM', '1'], timeout: 10n })
    assert.equal((await untilExited(world.cri, second.containerId)).exitCode, 3)
    const next = containerConfig('next', world.image, endOnceTold('true', 4), {
      mounts: [{ containerPath: '/told', hostPath: world.site.path('told'), readonly: true }],
    })
    const containerId = await createContainer(world.cri, third.sandboxId, third.sandbox, next)
    await world.cri.runtime.startContainer({ containerId })
    assert.equal((await untilExited(world.cri, containerId)).exitCode, 4)
  })

  it('and leaves nothing behind when they go', async () => {
    await removeAllPods(world.cri)
    await world.assertNothingLeft()
  })
})

describe('a daemon that is told to stop', () => {
  const world = useWorld()

  it('leaves its containers running and finds them again', async () => {
    const sandbox = await podConfig(world.site, 'through')
    const pod = await startPod(world.cri, sandbox, containerConfig('main', world.image, COUNT))
    const before = await readAll(world)
    assert.deepEqual(await world.runtime.stop(), { code: 0 })
    await sleep(500)
    await world.runtime.start()
    assert.deepEqual(await readAll(world), before)
    await countedIn(pod)
    await removePod(world.cri, pod.sandboxId)
    await world.assertNothingLeft()
  })
})

describe('a daemon killed in the middle of a request', () => {
  const world = useWorld()
  const moments = [5, 30, 60, 100, 150, 250]

  for (const moment of moments) {
    it(`finishes or undoes ten RunPodSandbox that ran for ${moment} ms`, async () => {
      const configs = await Promise.all(
        Array.from({ length: 10 }, (_, n) => podConfig(world.site, `run-${moment}-${n}`)),
      )
      const calls = configs.map((config) => world.cri.runtime.runPodSandbox({ config }).catch(() => undefined))
      await sleep(moment)
      await world.runtime.kill()
      const answered = (await Promise.all(calls)).filter((answer) => answer !== undefined)
      await world.runtime.start()
      const { items } = await world.cri.runtime.listPodSandbox({})
      const listed = new Set(items.map(({ id }) => id))
      for (const { podSandboxId } of answered) assert.ok(listed.has(podSandboxId), 'what was answered is there')
      // The kubelet comes again with the same request.
      const again = await Promise.all(configs.map((config) => world.cri.runtime.runPodSandbox({ config })))
      assert.equal(new Set(again.map(({ podSandboxId }) => podSandboxId)).size, configs.length)
      await removeAllPods(world.cri)
      await world.assertNothingLeft()
    })

    it(`finishes or undoes a create and a start that ran for ${moment} ms`, async () => {
      const sandbox = await podConfig(world.site, `create-${moment}`)
      const config = containerConfig('main', world.image, IDLE)
      const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
      const call = createContainer(world.cri, podSandboxId, sandbox, config)
        .then((containerId) => world.cri.runtime.startContainer({ containerId }))
        .catch(() => undefined)
      await sleep(moment)
      await world.runtime.kill()
      await call
      await world.runtime.start()
      const { containers } = await world.cri.runtime.listContainers({})
      for (const { id } of containers) await world.cri.runtime.removeContainer({ containerId: id })
      const containerId = await createContainer(world.cri, podSandboxId, sandbox, config)
      await world.cri.runtime.startContainer({ containerId })
      const sleepers = (await processesOf(world.site, [])).filter(({ name }) => name === IDLE.join(' '))
      assert.equal(sleepers.length, 1, 'one container runs')
      await removeAllPods(world.cri)
      await world.assertNothingLeft()
    })
  }

  it('finishes a stop and a removal that were under way', async () => {
    for (const moment of [5, 40, 100]) {
      const sandbox = await podConfig(world.site, `stop-${moment}`)
      const pod = await startPod(world.cri, sandbox, containerConfig('main', world.image, IDLE))
      const call = removePod(world.cri, pod.sandboxId).catch(() => undefined)
      await sleep(moment)
      await world.runtime.kill()
      await call
      await world.runtime.start()
      await removePod(world.cri, pod.sandboxId)
      await world.assertNothingLeft()
    }
  })
})
