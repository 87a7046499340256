/** Limits changed while containers run, as the kubelet does for an in-place resize: all of a request or nothing of it. */

import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { type DeepPartial, LinuxContainerResources } from '#proto/generated/api.ts'
import { isCgroupV2, kernelLimits } from './cgroup-files.ts'
import { failsWith } from './cri-client.ts'
import { crunProgram, crunSkip } from './crun.ts'
import { useWorld } from './harness.ts'
import { isPeer } from './peer.ts'
import { containerConfig, containerStatus, createContainer, podConfig, startPod, untilExited } from './pods.ts'

const IDLE = ['sleep', '1000']
const MIB = 1024n * 1024n

/** runc is everywhere; crun where it is installed. */
const HANDLERS = [
  { handler: '', skip: false as const },
  { handler: 'crun', skip: crunSkip },
]

const crun = crunProgram()
after(() => crun.remove())

for (const { handler, skip } of HANDLERS) {
  describe(`resources updated through ${handler || 'runc'}`, { skip: skip || (isPeer && 'ours') }, () => {
    const world = useWorld({
      config: { sections: { runtimes: { handlers: { runc: {}, ...(handler && { crun: { path: crun.path } }) } } } },
    })

    const start = async (name: string, command = IDLE) => {
      const sandbox = await podConfig(world.site, name)
      const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox, runtimeHandler: handler })
      const containerId = await createContainer(
        world.cri,
        podSandboxId,
        sandbox,
        containerConfig('main', world.image, command),
      )
      return { sandbox, podSandboxId, containerId }
    }

    const update = (containerId: string, linux: DeepPartial<LinuxContainerResources>) =>
      world.cri.runtime.updateContainerResources({ containerId, linux: LinuxContainerResources.fromPartial(linux) })

    const shown = async (containerId: string) => (await containerStatus(world.cri, containerId)).resources?.linux

    it('changes what is given, created or running, and shows it', async () => {
      const { containerId } = await start('both')
      await update(containerId, { memoryLimitInBytes: 96n * MIB, memorySwapLimitInBytes: 96n * MIB })
      assert.equal((await kernelLimits(world.site, containerId)).memory, String(96n * MIB))
      await world.cri.runtime.startContainer({ containerId })
      await update(containerId, { cpuQuota: 20_000n, cpusetCpus: '0' })
      assert.deepEqual(await kernelLimits(world.site, containerId), {
        memory: String(96n * MIB),
        cpus: '0',
        quota: '20000',
      })
      const resources = await shown(containerId)
      assert.equal(resources?.memoryLimitInBytes, 96n * MIB)
      assert.equal(resources?.cpuQuota, 20_000n)
      assert.equal(resources?.cpuShares, 102n, 'what was not given stays')
      assert.equal(resources?.cpusetCpus, '0')
      assert.equal(resources?.oomScoreAdj, 999n)
    })

    it('survives a restart of the daemon, and the end of the container', async () => {
      const { containerId } = await start('restart')
      await world.cri.runtime.startContainer({ containerId })
      await update(containerId, { memoryLimitInBytes: 100n * MIB, memorySwapLimitInBytes: 100n * MIB })
      const before = await shown(containerId)
      await world.runtime.kill()
      await world.runtime.start()
      assert.deepEqual(await shown(containerId), before)
      await update(containerId, { cpuShares: 512n })
      assert.equal((await shown(containerId))?.memoryLimitInBytes, 100n * MIB)
      assert.equal((await kernelLimits(world.site, containerId)).memory, String(100n * MIB))
      await world.cri.runtime.stopContainer({ containerId, timeout: 0n })
      assert.equal((await shown(containerId))?.cpuShares, 512n)
    })

    it('changes nothing when one part of it cannot be', async () => {
      const { containerId } = await start('whole')
      await world.cri.runtime.startContainer({ containerId })
      await update(containerId, { cpuQuota: 50_000n })
      const kernel = await kernelLimits(world.site, containerId)
      const answer = await shown(containerId)
      const cases: [DeepPartial<LinuxContainerResources>, status, RegExp][] = [
        // The kernel refuses CPUs that there are not, after it has taken the memory limit.
        [
          { memoryLimitInBytes: 64n * MIB, cpuQuota: 10_000n, cpusetCpus: '8000' },
          status.FAILED_PRECONDITION,
          /cpuset/,
        ],
        [{ memoryLimitInBytes: 64n * MIB, cpusetCpus: '3-1' }, status.INVALID_ARGUMENT, /cpuset_cpus/],
        [{ memoryLimitInBytes: -2n }, status.INVALID_ARGUMENT, /memory_limit_in_bytes -2/],
        [{ cpuShares: -1n }, status.INVALID_ARGUMENT, /cpu_shares -1/],
        [{ cpuPeriod: -1n }, status.INVALID_ARGUMENT, /cpu_period -1/],
        [{ cpuQuota: -2n }, status.INVALID_ARGUMENT, /cpu_quota -2/],
        [
          { memoryLimitInBytes: 64n * MIB, memorySwapLimitInBytes: 32n * MIB },
          status.INVALID_ARGUMENT,
          /memory_swap_limit_in_bytes/,
        ],
        [{ hugepageLimits: [{ pageSize: 'big', limit: 1n }] }, status.INVALID_ARGUMENT, /page_size "big"/],
        [
          { cpuQuota: 10_000n, unified: { 'cgroup.procs': '1' } },
          isCgroupV2 ? status.INVALID_ARGUMENT : status.FAILED_PRECONDITION,
          /unified/,
        ],
      ]
      for (const [linux, code, message] of cases) {
        await assert.rejects(update(containerId, linux), failsWith(code, message))
        assert.deepEqual(await kernelLimits(world.site, containerId), kernel)
        assert.deepEqual(await shown(containerId), answer)
      }
    })

    it('refuses less memory than is in use', async () => {
      const hold = ['sh', '-c', 'x=$(head -c 31457280 /dev/zero | tr "\\0" x); echo held; while :; do sleep 1; done']
      const { containerId } = await start('holding', hold)
      await world.cri.runtime.startContainer({ containerId })
      const held = async () =>
        (await world.cri.runtime.execSync({ containerId, cmd: ['true'], timeout: 10n })) && (await usage(containerId))
      const deadline = Date.now() + 20_000
      while ((await held()) < 30n * MIB && Date.now() < deadline) await new Promise((next) => setTimeout(next, 100))
      const kernel = await kernelLimits(world.site, containerId)
      const less = { memoryLimitInBytes: 16n * MIB, memorySwapLimitInBytes: 16n * MIB }
      await assert.rejects(update(containerId, less), failsWith(status.FAILED_PRECONDITION, /16777216 .*uses/))
      assert.deepEqual(await kernelLimits(world.site, containerId), kernel)
      assert.equal((await containerStatus(world.cri, containerId)).exitCode, 0, 'nothing was killed')
    })

    /** As the container sees it. */
    const usage = async (containerId: string): Promise<bigint> => {
      const cmd = [
        'sh',
        '-c',
        'cat /sys/fs/cgroup/memory/memory.usage_in_bytes /sys/fs/cgroup/memory.current 2>/dev/null',
      ]
      const { stdout } = await world.cri.runtime.execSync({ containerId, cmd, timeout: 10n })
      return BigInt(stdout.toString().trim() || 0)
    }

    it('is for containers that can use them', async () => {
      const { containerId } = await start('ended', ['true'])
      await world.cri.runtime.startContainer({ containerId })
      await untilExited(world.cri, containerId)
      await assert.rejects(update(containerId, { cpuShares: 10n }), failsWith(status.FAILED_PRECONDITION, /exited/))
      await assert.rejects(update('0'.repeat(64), { cpuShares: 10n }), failsWith(status.NOT_FOUND))
    })
  })
}

describe('resources of a pod', { skip: isPeer && 'ours' }, () => {
  const world = useWorld()

  it('are kept for those who look, and asked for in vain of a pod that is not there', async () => {
    const sandbox = await podConfig(world.site, 'sum', {
      linux: {
        cgroupParent: world.site.cgroupParent,
        overhead: { memoryLimitInBytes: 8n * MIB },
        resources: { memoryLimitInBytes: 128n * MIB, cpuShares: 100n },
      },
    })
    const { sandboxId } = await startPod(world.cri, sandbox, containerConfig('main', world.image, IDLE))
    const look = async () => {
      const { info } = await world.cri.runtime.podSandboxStatus({ podSandboxId: sandboxId, verbose: true })
      const { overhead, resources } = JSON.parse(info.info ?? '{}')
      return [overhead.memoryLimitInBytes, resources.memoryLimitInBytes, resources.cpuShares]
    }
    assert.deepEqual(await look(), [8388608, 134217728, 100])
    await world.cri.runtime.updatePodSandboxResources({
      podSandboxId: sandboxId,
      overhead: undefined,
      resources: LinuxContainerResources.fromPartial({ memoryLimitInBytes: 256n * MIB }),
    })
    assert.deepEqual(await look(), [8388608, 268435456, 100])
    await world.runtime.kill()
    await world.runtime.start()
    assert.deepEqual(await look(), [8388608, 268435456, 100])
    await assert.rejects(
      world.cri.runtime.updatePodSandboxResources({ podSandboxId: '0'.repeat(64) }),
      failsWith(status.NOT_FOUND),
    )
  })
})
