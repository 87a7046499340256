/**
 * Fifty duplicates of each call at once, and all pairs that cross: whatever the order, the answers and what is seen afterwards
 * fit one history, and nothing is left behind.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { type ContainerConfig, ContainerState, type PodSandboxConfig, PodSandboxState } from '#proto/generated/api.ts'
import {
  allOk,
  type Call,
  codeOf,
  codes,
  cross,
  DUPLICATES,
  HEAD_STARTS,
  isOneOf,
  type Outcome,
  outcome,
  times,
} from './at-once.ts'
import { useWorld } from './harness.ts'
import { isPeer } from './peer.ts'
import { containerConfig, createContainer, podConfig, removeAllPods } from './pods.ts'

const IDLE = ['sleep', '1000']

describe('calls at the same time', { skip: isPeer && 'ours' }, () => {
  const world = useWorld()
  let made = 0

  const runtime = () => world.cri.runtime

  interface Setting {
    readonly sandbox: PodSandboxConfig
    readonly podSandboxId: string
    readonly config: ContainerConfig
  }

  const newSandbox = async (): Promise<Setting> => {
    const sandbox = await podConfig(world.site, `race-${made++}`)
    const { podSandboxId } = await runtime().runPodSandbox({ config: sandbox })
    return { sandbox, podSandboxId, config: containerConfig('main', world.image, IDLE) }
  }
  const create = ({ podSandboxId, sandbox, config }: Setting) =>
    createContainer(world.cri, podSandboxId, sandbox, config)
  const newContainer = async (started: boolean) => {
    const setting = await newSandbox()
    const containerId = await create(setting)
    if (started) await runtime().startContainer({ containerId })
    return { ...setting, containerId }
  }

  const stateOf = async (containerId: string): Promise<ContainerState | undefined> => {
    const result = await outcome(runtime().containerStatus({ containerId }))
    if (result.ok) return result.value.status?.state
    assert.equal(result.code, status.NOT_FOUND)
    return undefined
  }

  /** List, status and filter tell the same of a container. */
  const agree = async (containerId: string, expected: ContainerState | undefined) => {
    assert.equal(await stateOf(containerId), expected)
    const { containers } = await runtime().listContainers({})
    assert.equal(containers.find(({ id }) => id === containerId)?.state, expected)
  }

  const clean = async () => {
    await removeAllPods(world.cri)
    assert.deepEqual((await runtime().listPodSandbox({})).items, [])
    assert.deepEqual((await runtime().listContainers({})).containers, [])
    await world.assertNothingLeft()
  }

  it(`${DUPLICATES} × RunPodSandbox: one pod`, async () => {
    const config = await podConfig(world.site, 'same')
    const results = await times(() => runtime().runPodSandbox({ config }))
    allOk(results)
    assert.equal(new Set(results.map((each) => each.ok && each.value.podSandboxId)).size, 1)
    assert.equal((await runtime().listPodSandbox({})).items.length, 1)
    await clean()
  })

  it(`${DUPLICATES} × CreateContainer: one container`, async () => {
    const setting = await newSandbox()
    const results = await times(() => create(setting))
    allOk(results)
    assert.equal(new Set(results.map((each) => each.ok && each.value)).size, 1)
    assert.equal((await runtime().listContainers({})).containers.length, 1)
    await clean()
  })

  it(`${DUPLICATES} × StartContainer: started once, refused otherwise`, async () => {
    const { containerId } = await newContainer(false)
    const results = await times(() => runtime().startContainer({ containerId }))
    assert.equal(results.filter(({ ok }) => ok).length, 1)
    assert.deepEqual(codes(results), [status.OK, status.FAILED_PRECONDITION])
    await agree(containerId, ContainerState.CONTAINER_RUNNING)
    await clean()
  })

  it(`${DUPLICATES} × ExecSync: each its own answer`, async () => {
    const { containerId } = await newContainer(true)
    let next = 0
    const results = await times(async () => {
      const word = String(next++)
      const answer = await runtime().execSync({ containerId, cmd: ['echo', word], timeout: 60n })
      return answer.stdout.toString() === `${word}\n` && answer.exitCode === 0
    })
    assert.ok(results.every((each) => each.ok && each.value))
    await clean()
  })

  it(`${DUPLICATES} × UpdateContainerResources: one of them is in force, whole`, async () => {
    const { containerId } = await newContainer(true)
    let next = 100n
    const results = await times(() => {
      const value = next++
      const none = { cpuPeriod: 0n, oomScoreAdj: 0n, cpusetCpus: '', cpusetMems: '', hugepageLimits: [], unified: {} }
      const linux = { ...none, cpuShares: value, cpuQuota: value * 1000n, memoryLimitInBytes: value << 20n }
      return runtime().updateContainerResources({
        containerId,
        linux: { ...linux, memorySwapLimitInBytes: value << 20n },
      })
    })
    allOk(results)
    const shown = (await runtime().containerStatus({ containerId })).status?.resources?.linux
    assert.equal(shown?.cpuQuota, (shown?.cpuShares ?? 0n) * 1000n)
    assert.equal(shown?.memoryLimitInBytes, (shown?.cpuShares ?? 0n) << 20n)
    await clean()
  })

  it(`${DUPLICATES} × ReopenContainerLog: one log`, async () => {
    const { containerId } = await newContainer(true)
    allOk(await times(() => runtime().reopenContainerLog({ containerId })))
    await agree(containerId, ContainerState.CONTAINER_RUNNING)
    await clean()
  })

  it(`${DUPLICATES} × StopContainer, then RemoveContainer: all are served`, async () => {
    const { containerId } = await newContainer(true)
    allOk(await times(() => runtime().stopContainer({ containerId, timeout: 1n })))
    await agree(containerId, ContainerState.CONTAINER_EXITED)
    allOk(await times(() => runtime().removeContainer({ containerId })))
    await agree(containerId, undefined)
    await clean()
  })

  it(`${DUPLICATES} × RemoveContainer of a running one: all are served`, async () => {
    const { containerId } = await newContainer(true)
    allOk(await times(() => runtime().removeContainer({ containerId })))
    await agree(containerId, undefined)
    await clean()
  })

  it(`${DUPLICATES} × StopPodSandbox, then RemovePodSandbox: all are served`, async () => {
    const { podSandboxId, containerId } = await newContainer(true)
    allOk(await times(() => runtime().stopPodSandbox({ podSandboxId })))
    const { status: stopped } = await runtime().podSandboxStatus({ podSandboxId })
    assert.equal(stopped?.state, PodSandboxState.SANDBOX_NOTREADY)
    await agree(containerId, ContainerState.CONTAINER_EXITED)
    allOk(await times(() => runtime().removePodSandbox({ podSandboxId })))
    await clean()
  })

  type Setup = Awaited<ReturnType<typeof newContainer>>
  /** Both calls, either one first, with every head start. */
  const crossing = (
    name: string,
    started: boolean,
    calls: (setup: Setup) => [Call, Call],
    check: (setup: Setup, first: Outcome<unknown>, second: Outcome<unknown>) => Promise<void>,
  ) =>
    it(name, async () => {
      for (const headStart of HEAD_STARTS) {
        const setup = await newContainer(started)
        const [first, second] = calls(setup)
        await check(setup, ...(await cross(first, second, headStart)))
        const other = await newContainer(started)
        const [one, two] = calls(other)
        const [b, a] = await cross(two, one, headStart)
        await check(other, a, b)
        await removeAllPods(world.cri)
      }
      await clean()
    })

  crossing(
    'StopContainer with RemoveContainer: both are served, and it is gone',
    true,
    ({ containerId }) => [
      () => runtime().stopContainer({ containerId, timeout: 1n }),
      () => runtime().removeContainer({ containerId }),
    ],
    async ({ containerId }, stop, remove) => {
      allOk([stop, remove])
      await agree(containerId, undefined)
    },
  )

  crossing(
    'StartContainer with StopContainer: stopped before it began, or after',
    false,
    ({ containerId }) => [
      () => runtime().startContainer({ containerId }),
      () => runtime().stopContainer({ containerId, timeout: 0n }),
    ],
    async ({ containerId }, start, stop) => {
      allOk([stop])
      isOneOf(start, status.OK, status.FAILED_PRECONDITION)
      await agree(containerId, ContainerState.CONTAINER_EXITED)
      const { status: end } = await runtime().containerStatus({ containerId })
      assert.equal(end?.exitCode, 137)
      if (start.ok) assert.ok(end.startedAt > 0n)
    },
  )

  crossing(
    'StartContainer with RemoveContainer: it is gone',
    false,
    ({ containerId }) => [
      () => runtime().startContainer({ containerId }),
      () => runtime().removeContainer({ containerId }),
    ],
    async ({ containerId }, start, remove) => {
      allOk([remove])
      isOneOf(start, status.OK, status.FAILED_PRECONDITION, status.NOT_FOUND)
      await agree(containerId, undefined)
    },
  )

  crossing(
    'ExecSync with RemoveContainer: an answer or a refusal, and it is gone',
    true,
    ({ containerId }) => [
      () => runtime().execSync({ containerId, cmd: ['sleep', '20'], timeout: 30n }),
      () => runtime().removeContainer({ containerId }),
    ],
    async ({ containerId }, exec, remove) => {
      allOk([remove])
      isOneOf(exec, status.OK, status.FAILED_PRECONDITION, status.NOT_FOUND)
      await agree(containerId, undefined)
    },
  )

  crossing(
    'UpdateContainerResources with StopContainer: in force or refused',
    true,
    ({ containerId }) => [
      () =>
        runtime().updateContainerResources({
          containerId,
          linux: {
            ...{ cpuPeriod: 0n, cpuQuota: 0n, memoryLimitInBytes: 0n, memorySwapLimitInBytes: 0n, oomScoreAdj: 0n },
            ...{ cpuShares: 333n, cpusetCpus: '', cpusetMems: '', hugepageLimits: [], unified: {} },
          },
        }),
      () => runtime().stopContainer({ containerId, timeout: 0n }),
    ],
    async ({ containerId }, update, stop) => {
      allOk([stop])
      isOneOf(update, status.OK, status.FAILED_PRECONDITION, status.NOT_FOUND)
      const { status: end } = await runtime().containerStatus({ containerId })
      assert.equal(end?.state, ContainerState.CONTAINER_EXITED)
      assert.equal(end?.resources?.linux?.cpuShares, update.ok ? 333n : 102n)
    },
  )

  crossing(
    'CreateContainer with RemovePodSandbox: made and gone, or refused',
    true,
    (setting) => [
      () => create({ ...setting, config: containerConfig('second', world.image, IDLE) }),
      () => runtime().removePodSandbox({ podSandboxId: setting.podSandboxId }),
    ],
    async ({ podSandboxId }, made, removed) => {
      allOk([removed])
      isOneOf(made, status.OK, status.FAILED_PRECONDITION, status.NOT_FOUND)
      const { containers } = await runtime().listContainers({})
      assert.deepEqual(
        containers.filter((each) => each.podSandboxId === podSandboxId),
        [],
      )
    },
  )

  crossing(
    'CreateContainer with StopPodSandbox: made and ended, or refused',
    true,
    (setting) => [
      () => create({ ...setting, config: containerConfig('second', world.image, IDLE) }),
      () => runtime().stopPodSandbox({ podSandboxId: setting.podSandboxId }),
    ],
    async ({ podSandboxId }, made, stopped) => {
      allOk([stopped])
      isOneOf(made, status.OK, status.FAILED_PRECONDITION)
      const { containers } = await runtime().listContainers({})
      const own = containers.filter((each) => each.podSandboxId === podSandboxId)
      assert.equal(own.length, made.ok ? 2 : 1)
      assert.ok(own.every(({ state }) => state === ContainerState.CONTAINER_EXITED))
    },
  )

  crossing(
    'StartContainer with RemovePodSandbox: both are gone',
    false,
    ({ containerId, podSandboxId }) => [
      () => runtime().startContainer({ containerId }),
      () => runtime().removePodSandbox({ podSandboxId }),
    ],
    async ({ containerId, podSandboxId }, start, remove) => {
      allOk([remove])
      isOneOf(start, status.OK, status.FAILED_PRECONDITION, status.NOT_FOUND)
      await agree(containerId, undefined)
      assert.equal(codeOf(await outcome(runtime().podSandboxStatus({ podSandboxId }))), status.NOT_FOUND)
    },
  )

  crossing(
    'StopPodSandbox with RemovePodSandbox: both are served, and all is gone',
    true,
    ({ podSandboxId }) => [
      () => runtime().stopPodSandbox({ podSandboxId }),
      () => runtime().removePodSandbox({ podSandboxId }),
    ],
    async ({ containerId, podSandboxId }, stop, remove) => {
      allOk([stop, remove])
      await agree(containerId, undefined)
      assert.equal(codeOf(await outcome(runtime().podSandboxStatus({ podSandboxId }))), status.NOT_FOUND)
    },
  )

  crossing(
    'ReopenContainerLog with RemoveContainer: a log or a refusal, and it is gone',
    true,
    ({ containerId }) => [
      () => runtime().reopenContainerLog({ containerId }),
      () => runtime().removeContainer({ containerId }),
    ],
    async ({ containerId }, reopen, remove) => {
      allOk([remove])
      isOneOf(reopen, status.OK, status.FAILED_PRECONDITION, status.NOT_FOUND)
      await agree(containerId, undefined)
    },
  )

  crossing(
    'StartContainer with StopPodSandbox: nothing runs in a stopped pod',
    false,
    ({ containerId, podSandboxId }) => [
      () => runtime().startContainer({ containerId }),
      () => runtime().stopPodSandbox({ podSandboxId }),
    ],
    async ({ containerId }, start, stop) => {
      allOk([stop])
      isOneOf(start, status.OK, status.FAILED_PRECONDITION)
      await agree(containerId, ContainerState.CONTAINER_EXITED)
    },
  )
})
