/** What a CNI plugin can do wrong (rows H6, H7), and calls that cross on one pod meanwhile (C3, C6). */

import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { status } from '@grpc/grpc-js'
import { CriError, failsWith } from '../cri-client.ts'
import { containerConfig, createContainer, podConfig, startPod, until } from '../pods.ts'
import { assertQuick, hostContainer, hostPod, IDLE, useFaultyWorld } from './faulty-world.ts'
import type { Fault } from './stand-ins.ts'

describe('a CNI plugin', () => {
  const faulty = useFaultyWorld()
  const { world, standIns } = faulty
  const { plugin } = standIns

  const called = (verb: string, count: number) =>
    until(`'${verb}' is called`, 10_000, async () => ((await plugin.calls(verb)).length >= count ? true : undefined))
  const addresses = async () => {
    const names = await readdir(join(world.site.network.ipamDir, world.site.network.name)).catch(() => [])
    return names.filter((name) => name.startsWith('10.'))
  }

  it('H6, C3: that hangs in ADD holds up its own pod only; five retries that time out make one pod', async () => {
    const config = await podConfig(world.site, 'hanging')
    await plugin.misbehave({ ADD: { hang: true } })
    const before = (await plugin.calls('ADD')).length
    for (let retry = 0; retry < 5; retry++) {
      const call = world.cri.runtime.runPodSandbox({ config }, { timeoutMs: 300 + 100 * retry })
      await assert.rejects(call, failsWith(status.DEADLINE_EXCEEDED))
    }
    await assertQuick(world.cri)
    await startPod(world.cri, await hostPod(world, 'neighbour'), hostContainer(world))
    const last = world.cri.runtime.runPodSandbox({ config })
    await plugin.heal()
    const { podSandboxId } = await last
    assert.equal((await plugin.calls('ADD')).length, before + 1, 'one ADD for all six calls')
    assert.deepEqual((await world.cri.runtime.runPodSandbox({ config })).podSandboxId, podSandboxId)
    await faulty.assertAllGoes()
  })

  const adds: [string, Fault][] = [
    ['fails', { exit: 1, stdout: '{"cniVersion":"1.0.0","code":7,"msg":"bad day"}' }],
    ['fails after it took an address', { after: true, exit: 1 }],
    ['prints no JSON', { stdout: 'hello', exit: 0 }],
    ['prints no address', { stdout: '{"cniVersion":"1.0.0"}', exit: 0 }],
    ['prints a garbage address', { stdout: '{"cniVersion":"1.0.0","ips":[{"address":"ten"}]}', exit: 0 }],
    ['speaks another version', { exit: 1, stdout: '{"cniVersion":"9.9.9","code":1,"msg":"incompatible"}' }],
    ['floods standard error', { exit: 1, stderrBytes: 20 * 1024 * 1024 }],
    ['is killed', { signal: 'SIGKILL' }],
  ]
  for (const [what, fault] of adds) {
    it(`H6: that ${what} in ADD makes RunPodSandbox fail, is asked for DEL, and keeps no address`, async () => {
      const config = await podConfig(world.site, 'add')
      await plugin.misbehave({ ADD: fault })
      const error = await world.cri.runtime.runPodSandbox({ config }).catch((e) => e)
      assert.ok(error instanceof CriError, String(error))
      assert.match(error.details, /"bridge"|address/)
      assert.ok(Buffer.byteLength(error.details) <= 4096)
      const add = (await plugin.calls('ADD')).at(-1)
      assert.ok((await plugin.calls('DEL')).some(({ subject }) => subject === add?.subject))
      await plugin.heal()
      assert.deepEqual((await world.cri.runtime.listPodSandbox({})).items, [])
      assert.deepEqual(await addresses(), [])
      await world.cri.runtime.runPodSandbox({ config })
      await faulty.assertAllGoes()
    })
  }

  it('H6, K1: that is in the middle of ADD when the daemon dies keeps no address', async () => {
    const config = await podConfig(world.site, 'crash')
    await plugin.misbehave({ ADD: { hang: true } })
    const before = (await plugin.calls('ADD')).length
    const call = world.cri.runtime.runPodSandbox({ config }).catch(() => undefined)
    await called('ADD', before + 1)
    await world.runtime.kill()
    await call
    await world.runtime.start()
    await plugin.heal()
    await sleep(300)
    assert.deepEqual(await addresses(), [])
    await world.cri.runtime.runPodSandbox({ config })
    assert.equal((await addresses()).length, 1)
    await faulty.assertAllGoes()
  })

  it('H7: that fails in DEL makes StopPodSandbox fail until it does not, and never keeps another pod', async () => {
    const [one, other] = [await podConfig(world.site, 'one'), await podConfig(world.site, 'other')]
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: one })
    const second = await world.cri.runtime.runPodSandbox({ config: other })
    await plugin.misbehave({ DEL: { only: podSandboxId, exit: 1, stderr: 'not now' } })
    await assert.rejects(world.cri.runtime.stopPodSandbox({ podSandboxId }), /not now/)
    await world.cri.runtime.stopPodSandbox({ podSandboxId: second.podSandboxId })
    await world.cri.runtime.removePodSandbox({ podSandboxId: second.podSandboxId })
    await plugin.heal()
    await world.cri.runtime.stopPodSandbox({ podSandboxId })
    assert.deepEqual(await addresses(), [])
    await faulty.assertAllGoes()
  })

  it('H7, C6: that hangs in DEL holds up its pod only, in which no container can be made any more', async () => {
    const sandbox = await podConfig(world.site, 'stopping')
    const pod = await startPod(world.cri, sandbox, containerConfig('main', world.image, IDLE))
    await plugin.misbehave({ DEL: { hang: true } })
    const late = world.cri.runtime.stopPodSandbox({ podSandboxId: pod.sandboxId }, { timeoutMs: 1000 })
    await assert.rejects(late, failsWith(status.DEADLINE_EXCEEDED))
    await assertQuick(world.cri)
    await assert.rejects(
      createContainer(world.cri, pod.sandboxId, sandbox, containerConfig('more', world.image, IDLE)),
      failsWith(status.FAILED_PRECONDITION, /stopped/),
    )
    await assert.rejects(
      world.cri.runtime.startContainer({ containerId: pod.containerId }),
      failsWith(status.FAILED_PRECONDITION),
    )
    await plugin.heal()
    await world.cri.runtime.stopPodSandbox({ podSandboxId: pod.sandboxId })
    await faulty.assertAllGoes()
  })
})
