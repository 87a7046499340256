/** Volumes on a server that answers no more: row G5. They hold up those who want them, and nobody else. */

import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { failsWith } from '../cri-client.ts'
import { useWorld } from '../harness.ts'
import { containerConfig, createContainer, podConfig, removeAllPods, startPod } from '../pods.ts'
import { assertQuick, IDLE } from './faulty-world.ts'

/** More than the daemon has threads for files. */
const MANY = 6

describe('a volume whose server answers no more', { skip: !existsSync('/dev/fuse') && 'host lacks FUSE' }, () => {
  let server: ChildProcess
  let mountpoint: string
  after(() => {
    // Whoever still waits for it is told that nobody is there any more.
    server.kill('SIGKILL')
    execFileSync('umount', ['-l', mountpoint])
  })
  const world = useWorld()

  before(async () => {
    mountpoint = world.site.path('volume')
    await mkdir(mountpoint)
    server = spawn(process.execPath, [join(import.meta.dirname, 'volume-server.mjs'), mountpoint], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    if (server.stdout) await once(server.stdout, 'data')
  })
  const using = (name: string, hostPath: string) =>
    containerConfig(name, world.image, IDLE, { mounts: [{ containerPath: '/volume', hostPath }] })

  it('keeps who wants a place in it waiting, for so long only, and nobody else', async () => {
    const sandbox = await podConfig(world.site, 'wants')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    server.kill('SIGSTOP')
    const calls = Array.from({ length: MANY }, (_, n) =>
      createContainer(world.cri, podSandboxId, sandbox, using(`wants-${n}`, join(mountpoint, 'sub'))),
    )
    const outcomes = Promise.allSettled(calls)
    try {
      await assertQuick(world.cri)
      const other = containerConfig('main', world.image, IDLE)
      await startPod(world.cri, await podConfig(world.site, 'other'), other)
      for (const each of calls) await assert.rejects(each, failsWith(status.DEADLINE_EXCEEDED))
    } finally {
      server.kill('SIGCONT')
      await outcomes
    }
    const again = await createContainer(world.cri, podSandboxId, sandbox, using('wants-0', join(mountpoint, 'sub')))
    await world.cri.runtime.startContainer({ containerId: again })
    await removeAllPods(world.cri)
  })

  it('keeps no container that has it from being stopped and removed', async () => {
    const pod = await startPod(world.cri, await podConfig(world.site, 'has'), using('main', mountpoint))
    server.kill('SIGSTOP')
    try {
      const { containerId, sandboxId } = pod
      await world.cri.runtime.listContainerStats({})
      await world.cri.runtime.stopContainer({ containerId, timeout: 1n })
      await world.cri.runtime.removeContainer({ containerId })
      await world.cri.runtime.stopPodSandbox({ podSandboxId: sandboxId })
      await world.cri.runtime.removePodSandbox({ podSandboxId: sandboxId })
      await assertQuick(world.cri)
    } finally {
      server.kill('SIGCONT')
    }
  })
})
