/** Endings and scarcity: rows K12, C5, C12, R6, R7. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { NamespaceMode } from '#proto/generated/api.ts'
import { CriError, failsWith } from '../cri-client.ts'
import { processesOf } from '../leftovers.ts'
import { containerStatus, createContainer, startPod, until } from '../pods.ts'
import { assertQuick, hostContainer, hostPod, IDLE, useFaultyWorld } from './faulty-world.ts'

const FREEZER = '/sys/fs/cgroup/freezer'
const PIDS = '/sys/fs/cgroup/pids'
const STUBBORN = ['sh', '-c', "trap '' TERM; while :; do sleep 1000; done"]

describe('processes', () => {
  const faulty = useFaultyWorld()
  const { world, standIns } = faulty
  const codeOf = async (id: string) => (await containerStatus(world.cri, id)).exitCode

  it('C5: a later stop with a shorter grace period wins, and a caller that leaves does not end the stop', async () => {
    const pod = await startPod(world.cri, await hostPod(world, 'stubborn'), hostContainer(world, 'main', STUBBORN))
    const { containerId } = pod
    const long = world.cri.runtime.stopContainer({ containerId, timeout: 600n })
    const left = world.cri.runtime.stopContainer({ containerId, timeout: 2n }, { timeoutMs: 100 })
    await assert.rejects(left, failsWith(status.DEADLINE_EXCEEDED))
    const stops = Array.from({ length: 10 }, () => world.cri.runtime.stopContainer({ containerId, timeout: 300n }))
    await Promise.all([long, ...stops])
    assert.equal(await codeOf(containerId), 137)
    await faulty.assertAllGoes()
  })

  it('C5: a paused container is stopped', { skip: !existsSync(FREEZER) && 'host lacks the v1 freezer' }, async () => {
    const pod = await startPod(world.cri, await hostPod(world, 'paused'), hostContainer(world))
    execFileSync('/usr/sbin/runc', ['--root', world.site.path('state/runc'), 'pause', pod.containerId])
    await world.cri.runtime.stopContainer({ containerId: pod.containerId, timeout: 1n }, { timeoutMs: 20_000 })
    assert.equal(await codeOf(pod.containerId), 137)
    await faulty.assertAllGoes()
  })

  it('C5: a process that not even SIGKILL ends keeps its own calls waiting only, and ends when it can', {
    skip: !existsSync(FREEZER) && 'host lacks the v1 freezer',
  }, async () => {
    const pod = await startPod(world.cri, await hostPod(world, 'stuck'), hostContainer(world))
    const freezer = `${FREEZER}${world.site.cgroupParent}/freezer.state`
    await writeFile(freezer, 'FROZEN')
    try {
      const { containerId } = pod
      const late = world.cri.runtime.stopContainer({ containerId, timeout: 0n }, { timeoutMs: 1500 })
      await assert.rejects(late, failsWith(status.DEADLINE_EXCEEDED))
      await assertQuick(world.cri)
    } finally {
      await writeFile(freezer, 'THAWED')
    }
    await world.cri.runtime.stopContainer({ containerId: pod.containerId, timeout: 0n })
    assert.equal(await codeOf(pod.containerId), 137)
    await faulty.assertAllGoes()
  })

  it('C12: a container in the PID namespace of the host takes its children with it', async () => {
    const sandbox = await hostPod(world, 'host-pid', {
      linux: {
        cgroupParent: world.site.cgroupParent,
        securityContext: {
          namespaceOptions: { network: NamespaceMode.NODE, pid: NamespaceMode.NODE, ipc: NamespaceMode.POD },
        },
      },
    })
    const leaky = ['sh', '-c', 'sleep 1000 & sleep 1000 & setsid sleep 1000 & sleep 1000']
    const pod = await startPod(world.cri, sandbox, hostContainer(world, 'main', leaky, NamespaceMode.NODE))
    const sleepers = async () =>
      (await processesOf(world.site, [])).filter(({ name }) => name === IDLE.join(' ')).length
    await until('all run', 5000, async () => ((await sleepers()) === 4 ? true : undefined))
    await world.cri.runtime.stopContainer({ containerId: pod.containerId, timeout: 0n })
    await until('none is left', 5000, async () => ((await sleepers()) === 0 ? true : undefined))
    await faulty.assertAllGoes()
  })

  it('K12: SIGTERM with a call that hangs ends the daemon in time, in order, and no container', async () => {
    const pod = await startPod(world.cri, await hostPod(world, 'goes-on'), hostContainer(world))
    await standIns.runtime.misbehave({ create: { hang: true } })
    const calls = (await standIns.runtime.calls('create')).length
    const hanging = createContainer(world.cri, pod.sandboxId, pod.sandbox, hostContainer(world, 'more'))
    const failed = assert.rejects(hanging, CriError)
    await until('the runtime is called', 5000, async () =>
      (await standIns.runtime.calls('create')).length > calls ? true : undefined,
    )
    const began = Date.now()
    assert.deepEqual(await world.runtime.stop(), { code: 0 })
    assert.ok(Date.now() - began < 20_000, 'in time')
    await failed
    await standIns.heal()
    await world.runtime.start()
    const { containers } = await world.cri.runtime.listContainers({})
    assert.deepEqual(
      containers.map(({ id }) => id),
      [pod.containerId],
    )
    await faulty.assertAllGoes()
  })

  it('R6: a daemon out of descriptors says so, serves who is connected, and recovers', async () => {
    const sandbox = await hostPod(world, 'descriptors')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    const { pid } = world.runtime
    const limits = await readFile(`/proc/${pid}/limits`, 'utf8')
    const [, soft, hard] = /^Max open files\s+(\d+)\s+(\d+)/m.exec(limits) ?? []
    execFileSync('prlimit', ['--pid', String(pid), '--nofile=10:'])
    try {
      const call = createContainer(world.cri, podSandboxId, sandbox, hostContainer(world))
      await assert.rejects(call, failsWith(status.RESOURCE_EXHAUSTED))
      await assertQuick(world.cri)
    } finally {
      execFileSync('prlimit', ['--pid', String(pid), `--nofile=${soft}:${hard}`])
    }
    const containerId = await createContainer(world.cri, podSandboxId, sandbox, hostContainer(world))
    await world.cri.runtime.startContainer({ containerId })
    await faulty.assertAllGoes()
  })

  it('R7: a daemon that cannot fork says so, makes nothing half, and recovers', {
    skip: !existsSync(`${PIDS}/cgroup.procs`) && 'host lacks the v1 pids controller',
  }, async () => {
    const sandbox = await hostPod(world, 'fork')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    const cgroup = `${PIDS}/ck-fork-${world.site.id}`
    await mkdir(cgroup)
    const before = /^\d+:pids:(.*)$/m.exec(await readFile(`/proc/${world.runtime.pid}/cgroup`, 'utf8'))?.[1] ?? '/'
    try {
      await writeFile(`${cgroup}/cgroup.procs`, String(world.runtime.pid))
      await writeFile(`${cgroup}/pids.max`, '1')
      const call = createContainer(world.cri, podSandboxId, sandbox, hostContainer(world))
      await assert.rejects(call, failsWith(status.RESOURCE_EXHAUSTED))
      await assertQuick(world.cri)
    } finally {
      await writeFile(`${PIDS}${before}/cgroup.procs`, String(world.runtime.pid))
      // Whoever is still on its way out keeps it busy.
      await until('the cgroup is empty', 10_000, () =>
        rmdir(cgroup).then(
          () => true,
          () => undefined,
        ),
      )
    }
    assert.deepEqual((await world.cri.runtime.listContainers({})).containers, [])
    const containerId = await createContainer(world.cri, podSandboxId, sandbox, hostContainer(world))
    await world.cri.runtime.startContainer({ containerId })
    await faulty.assertAllGoes()
  })
})
