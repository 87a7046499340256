/** What a container's life owes to those who look at it: failed starts stay visible, and a sandbox bears any number of them. */

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { ContainerState, MountPropagation, Signal } from '#proto/generated/api.ts'
import { failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { isPeer } from './peer.ts'
import { containerConfig, containerStatus, createContainer, podConfig, startPod, untilExited } from './pods.ts'

const IDLE = ['sleep', '1000']
const CYCLES = 100

/** runc, but for `start`, which fails with a message that an operator would want to read. */
const dir = mkdtempSync(join(tmpdir(), 'cricket-nostart-'))
const NO_START = join(dir, 'nostart')
writeFileSync(
  NO_START,
  `#!/bin/sh
for word; do
  case $word in start) echo 'no start today' >&2; exit 1;; create|delete|state|kill|features) break;; esac
done
exec runc "$@"
`,
  { mode: 0o755 },
)
after(() => rmSync(dir, { recursive: true }))

describe('the life of containers', { skip: isPeer && 'ours' }, () => {
  const world = useWorld({
    config: { sections: { runtimes: { handlers: { runc: {}, nostart: { path: NO_START } } } } },
  })

  it('shows a start that failed until the container is removed', async () => {
    const sandbox = await podConfig(world.site, 'start-error')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox, runtimeHandler: 'nostart' })
    const config = containerConfig('main', world.image, IDLE)
    const containerId = await createContainer(world.cri, podSandboxId, sandbox, config)
    await assert.rejects(
      world.cri.runtime.startContainer({ containerId }),
      failsWith(status.INTERNAL, /no start today/),
    )
    for (const again of [false, true]) {
      if (again) {
        await world.runtime.kill()
        await world.runtime.start()
      }
      const shown = await containerStatus(world.cri, containerId)
      assert.deepEqual(
        [shown.state, shown.exitCode, shown.reason],
        [ContainerState.CONTAINER_EXITED, 128, 'StartError'],
      )
      assert.match(shown.message, /no start today/)
      assert.ok(shown.finishedAt >= shown.createdAt)
    }
    await assert.rejects(world.cri.runtime.startContainer({ containerId }), failsWith(status.FAILED_PRECONDITION))
    await world.cri.runtime.removeContainer({ containerId })
    await assert.rejects(containerStatus(world.cri, containerId), failsWith(status.NOT_FOUND))
  })

  it('starts nothing twice, and nothing that ended or never was', async () => {
    const pod = await startPod(
      world.cri,
      await podConfig(world.site, 'once'),
      containerConfig('main', world.image, ['sh', '-c', 'sleep 0.5']),
    )
    const { containerId } = pod
    const start = () => world.cri.runtime.startContainer({ containerId })
    await assert.rejects(start(), failsWith(status.FAILED_PRECONDITION, /running/))
    await untilExited(world.cri, containerId)
    await assert.rejects(start(), failsWith(status.FAILED_PRECONDITION, /exited/))
    await assert.rejects(world.cri.runtime.startContainer({ containerId: '0'.repeat(64) }), failsWith(status.NOT_FOUND))
  })

  it('tells everything of a container', async () => {
    const volume = world.site.path('volume')
    const config = containerConfig('main', world.image, IDLE, {
      mounts: [
        { hostPath: volume, containerPath: '/ro', readonly: true, propagation: MountPropagation.PROPAGATION_PRIVATE },
        { hostPath: volume, containerPath: '/rw', propagation: MountPropagation.PROPAGATION_PRIVATE },
      ],
      linux: {
        resources: { cpuShares: 77n },
        securityContext: { runAsUser: { value: 1000n }, supplementalGroups: [7n] },
      },
    })
    const { containerId } = await startPod(world.cri, await podConfig(world.site, 'told'), config)
    const { status: told, info } = await world.cri.runtime.containerStatus({ containerId, verbose: true })
    assert.equal(told?.id, containerId)
    assert.deepEqual(told?.metadata, config.metadata)
    assert.equal(told?.image?.image, world.image)
    assert.match(told?.imageRef ?? '', /@sha256:/)
    assert.equal(told?.imageId, world.busybox.config.digest)
    assert.deepEqual(
      told?.mounts.map(({ containerPath, hostPath, readonly }) => [containerPath, hostPath, readonly]),
      [
        ['/ro', volume, true],
        ['/rw', volume, false],
      ],
    )
    assert.match(told?.logPath ?? '', /^\/.*main\/0\.log$/)
    assert.equal(told?.resources?.linux?.cpuShares, 77n)
    assert.equal(told?.user?.linux?.uid, 1000n)
    assert.ok(told?.user?.linux?.supplementalGroups.includes(7n))
    assert.equal(told?.stopSignal, Signal.SIGTERM)
    assert.deepEqual([told?.reason, told?.message, told?.exitCode, told?.finishedAt], ['', '', 0, 0n])
    assert.ok((told?.startedAt ?? 0n) >= (told?.createdAt ?? 0n))
    const { pid, sandboxID, runtimeSpec } = JSON.parse(info.info ?? '{}')
    assert.ok(pid > 1 && sandboxID.length === 64)
    assert.equal(runtimeSpec.process.user.uid, 1000)
  })

  it(`bears ${CYCLES} containers one after the other in one sandbox`, async () => {
    const sandbox = await podConfig(world.site, 'cycles')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    const records = () => readdir(world.site.path('root/containers'))
    const before = (await records()).length
    for (let attempt = 0; attempt < CYCLES; attempt++) {
      const config = containerConfig('main', world.image, ['true'], { metadata: { name: 'main', attempt } })
      const containerId = await createContainer(world.cri, podSandboxId, sandbox, config)
      if (attempt % 4 > 0) await world.cri.runtime.startContainer({ containerId })
      if (attempt % 4 === 2) await untilExited(world.cri, containerId)
      if (attempt % 4 === 3) await world.cri.runtime.stopContainer({ containerId, timeout: 1n })
      await world.cri.runtime.removeContainer({ containerId })
    }
    assert.equal((await records()).length, before)
    const { items } = await world.cri.runtime.listPodSandbox({})
    assert.ok(items.some(({ id, state }) => id === podSandboxId && state === 0))
  })
})
