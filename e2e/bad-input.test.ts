/** What a client or an operator of the network can get wrong: a clear error with the right code, nothing left behind. */

import assert from 'node:assert/strict'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { ContainerState, NamespaceMode, PodSandboxConfig } from '#proto/generated/api.ts'
import { CriError, failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import {
  containerConfig,
  containerStatus,
  createContainer,
  podConfig,
  removeAllPods,
  removePod,
  startPod,
  until,
  untilExited,
} from './pods.ts'
import { cniConfig } from './site.ts'

const IDLE = ['sleep', '1000']
const NO_ID = 'f'.repeat(64)

describe('a request', () => {
  const world = useWorld()

  it('for ids that nobody has is NOT_FOUND', async () => {
    const { runtime } = world.cri
    const sandboxConfig = await podConfig(world.site, 'unknown')
    const config = containerConfig('main', world.image, IDLE)
    const calls = {
      podSandboxStatus: runtime.podSandboxStatus({ podSandboxId: NO_ID }),
      containerStatus: runtime.containerStatus({ containerId: NO_ID }),
      createContainer: runtime.createContainer({ podSandboxId: NO_ID, config, sandboxConfig }),
      startContainer: runtime.startContainer({ containerId: NO_ID }),
      execSync: runtime.execSync({ containerId: NO_ID, cmd: ['true'] }),
    }
    for (const [name, call] of Object.entries(calls)) await assert.rejects(call, failsWith(status.NOT_FOUND), name)
  })

  it('to stop or remove what nobody has succeeds', async () => {
    await world.cri.runtime.stopContainer({ containerId: NO_ID })
    await world.cri.runtime.removeContainer({ containerId: NO_ID })
    await world.cri.runtime.stopPodSandbox({ podSandboxId: NO_ID })
    await world.cri.runtime.removePodSandbox({ podSandboxId: NO_ID })
  })

  it('without what it needs is INVALID_ARGUMENT', async () => {
    const { runtime } = world.cri
    const config = await podConfig(world.site, 'incomplete')
    const without = PodSandboxConfig.fromPartial({ ...config, metadata: { name: '', uid: '', namespace: '' } })
    await assert.rejects(runtime.runPodSandbox({}), failsWith(status.INVALID_ARGUMENT))
    await assert.rejects(runtime.runPodSandbox({ config: without }), failsWith(status.INVALID_ARGUMENT))
    const { podSandboxId } = await runtime.runPodSandbox({ config })
    await assert.rejects(runtime.createContainer({ podSandboxId }), failsWith(status.INVALID_ARGUMENT))
    const nameless = containerConfig('', world.image, IDLE)
    await assert.rejects(createContainer(world.cri, podSandboxId, config, nameless), failsWith(status.INVALID_ARGUMENT))
    const outside = containerConfig('main', world.image, IDLE, { logPath: '../../outside.log' })
    await assert.rejects(
      runtime.createContainer({ podSandboxId, config: outside, sandboxConfig: config }),
      failsWith(status.INVALID_ARGUMENT),
    )
    await removePod(world.cri, podSandboxId)
    await world.assertNothingLeft()
  })

  it('for a runtime handler that is not configured is refused and names it', async () => {
    const config = await podConfig(world.site, 'handler')
    const call = world.cri.runtime.runPodSandbox({ config, runtimeHandler: 'kata' })
    await assert.rejects(call, failsWithOneOf([status.INVALID_ARGUMENT, status.NOT_FOUND], /kata/))
    assert.deepEqual((await world.cri.runtime.listPodSandbox({})).items, [])
    await world.assertNothingLeft()
  })

  it('for a container of an image that is not there is NOT_FOUND', async () => {
    const sandbox = await podConfig(world.site, 'no-image')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    const config = containerConfig('main', `${world.registry.host}/never-pulled:1`, IDLE)
    const call = createContainer(world.cri, podSandboxId, sandbox, config)
    await assert.rejects(call, failsWith(status.NOT_FOUND, /never-pulled/))
    assert.deepEqual((await world.cri.runtime.listContainers({})).containers, [])
    await removePod(world.cri, podSandboxId)
    await world.assertNothingLeft()
  })

  it('for a command that does not exist fails, names it, and the pod goes on', async () => {
    const sandbox = await podConfig(world.site, 'no-command')
    const config = containerConfig('main', world.image, ['/no/such/command'])
    await assert.rejects(startPod(world.cri, sandbox, config), (error) => {
      assert.ok(
        error instanceof CriError && error.code !== status.INTERNAL && error.code !== status.NOT_FOUND,
        `${error}`,
      )
      assert.match(error.details, /no\/such\/command/)
      return true
    })
    // Either there is no container, or one that tells why it did not start.
    const { containers } = await world.cri.runtime.listContainers({})
    for (const { id } of containers) {
      const failed = await containerStatus(world.cri, id)
      assert.equal(failed.state, ContainerState.CONTAINER_EXITED)
      assert.equal(failed.exitCode, 128)
    }
    const [pod] = (await world.cri.runtime.listPodSandbox({})).items
    assert.ok(pod)
    const right = containerConfig('main', world.image, ['true'], { metadata: { name: 'main', attempt: 1 } })
    const containerId = await createContainer(world.cri, pod.id, sandbox, right)
    await world.cri.runtime.startContainer({ containerId })
    assert.equal((await untilExited(world.cri, containerId)).exitCode, 0)
    await removePod(world.cri, pod.id)
    await world.assertNothingLeft()
  })

  it('that comes in the wrong state is FAILED_PRECONDITION', async () => {
    const { runtime } = world.cri
    const sandbox = await podConfig(world.site, 'state')
    const pod = await startPod(world.cri, sandbox, containerConfig('main', world.image, ['true']))
    const { containerId } = pod
    await untilExited(world.cri, containerId)
    await assert.rejects(runtime.startContainer({ containerId }), failsWith(status.FAILED_PRECONDITION))
    await assert.rejects(runtime.execSync({ containerId, cmd: ['true'] }), failsWith(status.FAILED_PRECONDITION))
    await runtime.stopPodSandbox({ podSandboxId: pod.sandboxId })
    const late = createContainer(world.cri, pod.sandboxId, sandbox, containerConfig('late', world.image, IDLE))
    await assert.rejects(late, failsWith(status.FAILED_PRECONDITION))
    await removePod(world.cri, pod.sandboxId)
    await world.assertNothingLeft()
  })

  it('to exec nothing is INVALID_ARGUMENT, to exec what is not there tells so', async () => {
    const sandbox = await podConfig(world.site, 'exec')
    const { containerId, sandboxId } = await startPod(world.cri, sandbox, containerConfig('main', world.image, IDLE))
    await assert.rejects(world.cri.runtime.execSync({ containerId, cmd: [] }), failsWith(status.INVALID_ARGUMENT))
    const missing = await world.cri.runtime
      .execSync({ containerId, cmd: ['/no/such/command'], timeout: 10n })
      .catch((error: unknown) => error)
    if (missing instanceof CriError) assert.match(missing.details, /no\/such\/command/)
    else assert.ok(missing && typeof missing === 'object' && 'exitCode' in missing && missing.exitCode !== 0)
    await removePod(world.cri, sandboxId)
  })
})

describe('a network', () => {
  const world = useWorld()
  const configPath = () => join(world.site.network.configDir, '10-pods.conflist')
  const networkReady = async () => {
    const answer = await world.cri.runtime.status({})
    return answer.status?.conditions.find(({ type }) => type === 'NetworkReady')
  }
  const untilReady = (ready: boolean) =>
    until(`NetworkReady is ${ready}`, 15_000, async () => ((await networkReady())?.status === ready ? true : undefined))

  it('that is not configured is reported, stops pods of its own, and does not stop pods of the host network', async () => {
    await rename(configPath(), world.site.path('saved'))
    await untilReady(false)
    const condition = await networkReady()
    assert.notEqual(condition?.reason, '')
    assert.notEqual(condition?.message, '')
    const config = await podConfig(world.site, 'no-network')
    await assert.rejects(world.cri.runtime.runPodSandbox({ config }), failsWithOneOf(NETWORK_CODES, /CNI|network/i))
    await world.assertNothingLeft()
    const context = { namespaceOptions: { network: NamespaceMode.NODE, pid: NamespaceMode.CONTAINER } }
    const linux = { cgroupParent: world.site.cgroupParent, securityContext: context }
    const host = await world.cri.runtime.runPodSandbox({ config: await podConfig(world.site, 'host', { linux }) })
    await removePod(world.cri, host.podSandboxId)
    await rename(world.site.path('saved'), configPath())
    await untilReady(true)
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config })
    await removePod(world.cri, podSandboxId)
    await world.assertNothingLeft()
  })

  it('whose plugin is missing or fails makes RunPodSandbox fail and undo the plugins before it', async () => {
    const good = await readFile(configPath(), 'utf8')
    const parsed: { plugins: object[] } = JSON.parse(cniConfig(world.site.network))
    const missing = { ...parsed, plugins: [...parsed.plugins, { type: 'no-such-plugin' }] }
    const failing = { ...parsed, plugins: [...parsed.plugins, { type: 'bandwidth', ingressRate: 'nonsense' }] }
    for (const [name, config] of Object.entries({ missing, failing })) {
      await writeFile(configPath(), JSON.stringify(config))
      await until('the configuration is noticed', 15_000, async () => {
        const pod = await podConfig(world.site, name)
        const answer = await world.cri.runtime.runPodSandbox({ config: pod }).catch((error: unknown) => error)
        if (answer instanceof CriError) {
          const codes = name === 'missing' ? NETWORK_CODES : [...NETWORK_CODES, status.INTERNAL]
          assert.ok(codes.includes(answer.code), answer.message)
          assert.match(answer.details, name === 'missing' ? /no-such-plugin/ : /bandwidth/)
          return true
        }
        await removeAllPods(world.cri)
        return undefined
      })
      assert.deepEqual((await world.cri.runtime.listPodSandbox({})).items, [])
      await world.assertNothingLeft()
    }
    await writeFile(configPath(), good)
    await untilReady(true)
  })
})

/** A pod network that cannot be had now: the caller should come again. */
const NETWORK_CODES = [status.UNAVAILABLE, status.FAILED_PRECONDITION]

function failsWithOneOf(codes: status[], message: RegExp): (error: unknown) => boolean {
  return (error) => {
    if (!(error instanceof CriError)) throw error
    const wanted = codes.map((code) => status[code]).join(' or ')
    assert.ok(codes.includes(error.code), `want ${wanted}, got: ${error.message}`)
    assert.match(error.details, message)
    return true
  }
}
