/** The life of a container as the kubelet sees it: states, exits, lists, what it sees, ExecSync, stop, removal. */

import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { ContainerState, MountPropagation, NamespaceMode } from '#proto/generated/api.ts'
import { failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { processOf } from './leftovers.ts'
import { isPeer } from './peer.ts'
import {
  containerConfig,
  containerStatus,
  createContainer,
  podConfig,
  removePod,
  startPod,
  until,
  untilExited,
} from './pods.ts'

const IDLE = ['sleep', '1000']

describe('a container', () => {
  const world = useWorld()
  const exec = (containerId: string, cmd: string[], timeout = 10n) =>
    world.cri.runtime.execSync({ containerId, cmd, timeout })
  const start = async (name: string, command: string[], overrides: Parameters<typeof containerConfig>[3] = {}) =>
    startPod(world.cri, await podConfig(world.site, name), containerConfig('main', world.image, command, overrides))

  it('goes from created over running to exited, with its times and exit code', async () => {
    const sandbox = await podConfig(world.site, 'life')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    const config = containerConfig('main', world.image, ['sh', '-c', 'sleep 0.3; exit 7'], {
      annotations: { kept: ' as is ' },
    })
    const containerId = await createContainer(world.cri, podSandboxId, sandbox, config)
    const created = await containerStatus(world.cri, containerId)
    assert.equal(created.state, ContainerState.CONTAINER_CREATED)
    assert.ok(created.createdAt > 0n)
    assert.equal(created.startedAt, 0n)
    assert.deepEqual(created.metadata, config.metadata)
    assert.deepEqual(created.labels, config.labels)
    assert.deepEqual(created.annotations, config.annotations)
    assert.equal(created.logPath, join(sandbox.logDirectory, 'main/0.log'))
    await world.cri.runtime.startContainer({ containerId })
    const running = await containerStatus(world.cri, containerId)
    assert.equal(running.state, ContainerState.CONTAINER_RUNNING)
    assert.ok(running.startedAt >= running.createdAt)
    const exited = await untilExited(world.cri, containerId)
    assert.equal(exited.exitCode, 7)
    assert.equal(exited.reason, 'Error')
    assert.ok(exited.finishedAt >= exited.startedAt)
    await removePod(world.cri, podSandboxId)
  })

  it('that ends well says Completed', async () => {
    const pod = await start('well', ['true'])
    const exited = await untilExited(world.cri, pod.containerId)
    assert.equal(exited.exitCode, 0)
    assert.equal(exited.reason, 'Completed')
    await removePod(world.cri, pod.sandboxId)
  })

  it('killed by a signal exits with 128 + signal', async () => {
    const pod = await start('killed', ['sleep', '7654'])
    // The OCI runtime ends its start while its own process is just becoming the container's.
    const pid = await until('the command runs', 10_000, () => processOf(world.site, 'sleep 7654'))
    process.kill(pid, 'SIGKILL')
    const exited = await untilExited(world.cri, pod.containerId)
    assert.equal(exited.exitCode, 137)
    assert.equal(exited.reason, 'Error')
    await removePod(world.cri, pod.sandboxId)
  })

  it('that needs more memory than it may says OOMKilled', async () => {
    const pod = await start('oom', ['sh', '-c', 'head -c 100000000 /dev/zero | tail'], {
      linux: { resources: { memoryLimitInBytes: 16_777_216n, oomScoreAdj: 1000n } },
    })
    const exited = await untilExited(world.cri, pod.containerId)
    assert.equal(exited.reason, 'OOMKilled')
    assert.notEqual(exited.exitCode, 0)
    await removePod(world.cri, pod.sandboxId)
  })

  it('is listed by id, sandbox, state and labels', async () => {
    const pod = await start('listed', IDLE, { labels: { app: 'listed' } })
    const other = await start('other', ['true'])
    await untilExited(world.cri, other.containerId)
    const list = async (filter: {
      id?: string
      pod?: string
      state?: ContainerState
      labels?: Record<string, string>
    }) => {
      const { id = '', pod: podSandboxId = '', state, labels: labelSelector = {} } = filter
      const full = { id, podSandboxId, labelSelector, state: state === undefined ? undefined : { state } }
      return (await world.cri.runtime.listContainers({ filter: full })).containers.map((item) => item.id)
    }
    assert.deepEqual(await list({ id: pod.containerId }), [pod.containerId])
    assert.deepEqual(await list({ pod: other.sandboxId }), [other.containerId])
    assert.deepEqual(await list({ state: ContainerState.CONTAINER_RUNNING }), [pod.containerId])
    assert.deepEqual(await list({ state: ContainerState.CONTAINER_EXITED }), [other.containerId])
    assert.deepEqual(await list({ labels: { app: 'listed' } }), [pod.containerId])
    await removePod(world.cri, pod.sandboxId)
    await removePod(world.cri, other.sandboxId)
  })

  it('sees its image, environment, hostname, name servers and volumes', async () => {
    const volume = world.site.path('volume')
    await mkdir(volume, { recursive: true })
    await writeFile(join(volume, 'from-host'), 'shared')
    const mount = { hostPath: volume, propagation: MountPropagation.PROPAGATION_PRIVATE }
    const pod = await start('view', IDLE, {
      envs: [{ key: 'FROM_POD', value: Buffer.from('also yes') }],
      mounts: [
        { ...mount, containerPath: '/data' },
        { ...mount, containerPath: '/data-ro', readonly: true },
      ],
    })
    const read = async (script: string) => (await exec(pod.containerId, ['sh', '-c', script])).stdout.toString()
    assert.equal(await read('cat /greeting'), 'hello from the second layer\n')
    assert.equal(await read('echo $FROM_IMAGE, $FROM_POD'), 'yes, also yes\n')
    assert.equal(await read('hostname'), 'view\n')
    assert.match(await read('cat /etc/resolv.conf'), /^nameserver 10\.96\.0\.10$/m)
    assert.equal(await read('cat /data/from-host; echo back > /data/from-container'), 'shared')
    assert.equal(await readFile(join(volume, 'from-container'), 'utf8'), 'back\n')
    assert.equal(await read('touch /data-ro/x 2>/dev/null || echo refused'), 'refused\n')
    assert.equal(await read('cat /proc/1/comm'), 'sleep\n')
    await removePod(world.cri, pod.sandboxId)
  })

  it('runs as the user it is told, with its groups', async () => {
    const pod = await start('user', IDLE, {
      linux: { securityContext: { runAsUser: { value: 1000n }, supplementalGroups: [3000n] } },
    })
    const { stdout } = await exec(pod.containerId, ['id'])
    assert.match(stdout.toString(), /^uid=1000\(app\) gid=1000\(app\)/)
    assert.match(stdout.toString(), /3000/)
    const home = await exec(pod.containerId, ['sh', '-c', 'touch /home/app/mine && touch /root/not'])
    assert.notEqual(home.exitCode, 0)
    await removePod(world.cri, pod.sandboxId)
  })

  it('shares a process namespace with its pod when asked to', async () => {
    const namespaceOptions = { network: NamespaceMode.POD, pid: NamespaceMode.POD, ipc: NamespaceMode.POD }
    const linux = { cgroupParent: world.site.cgroupParent, securityContext: { namespaceOptions } }
    const sandbox = await podConfig(world.site, 'shared-pid', { linux })
    const context = { linux: { securityContext: { namespaceOptions } } }
    const pod = await startPod(world.cri, sandbox, containerConfig('one', world.image, ['sleep', '1001'], context))
    const second = containerConfig('two', world.image, ['sleep', '1002'], context)
    const containerId = await createContainer(world.cri, pod.sandboxId, sandbox, second)
    await world.cri.runtime.startContainer({ containerId })
    const { stdout } = await exec(containerId, ['ps', '-o', 'pid,args'])
    assert.match(stdout.toString(), /sleep 1001/)
    assert.match(stdout.toString(), /sleep 1002/)
    await removePod(world.cri, pod.sandboxId)
    await world.assertNothingLeft()
  })

  it('is asked by ExecSync: output, errors, exit code', async () => {
    const pod = await start('exec', IDLE)
    const answer = await exec(pod.containerId, ['sh', '-c', 'echo out; echo err >&2; exit 3'])
    assert.equal(answer.stdout.toString(), 'out\n')
    assert.equal(answer.stderr.toString(), 'err\n')
    assert.equal(answer.exitCode, 3)
    const many = await Promise.all(Array.from({ length: 10 }, (_, n) => exec(pod.containerId, ['echo', String(n)])))
    assert.deepEqual(
      many.map(({ stdout }) => stdout.toString()),
      Array.from({ length: 10 }, (_, n) => `${n}\n`),
    )
    await removePod(world.cri, pod.sandboxId)
  })

  it('ends an ExecSync at its deadline with all it started', async () => {
    const pod = await start('deadline', IDLE)
    const call = exec(pod.containerId, ['sh', '-c', 'sleep 4321 & sleep 4322'], 1n)
    await assert.rejects(call, failsWith(status.DEADLINE_EXCEEDED))
    await until('the command and its child are gone', 5000, async () => {
      const { stdout } = await exec(pod.containerId, ['ps', '-o', 'args'])
      return stdout.toString().includes(isPeer ? 'sleep 4322' : 'sleep 432') ? undefined : true
    })
    await removePod(world.cri, pod.sandboxId)
  })

  it('gets its stop signal, and SIGKILL when it does not listen', async () => {
    const listening = await start('listening', ['sh', '-c', "trap 'exit 5' TERM; while :; do sleep 0.05; done"])
    const deaf = await start('deaf', IDLE)
    const stop = ({ containerId }: { containerId: string }, timeout: bigint) =>
      world.cri.runtime.stopContainer({ containerId, timeout })
    await stop(listening, 10n)
    assert.equal((await containerStatus(world.cri, listening.containerId)).exitCode, 5)
    await stop(deaf, 1n)
    const status137 = await containerStatus(world.cri, deaf.containerId)
    assert.equal(status137.state, ContainerState.CONTAINER_EXITED)
    assert.equal(status137.exitCode, 137)
    await stop(deaf, 1n)
    await removePod(world.cri, listening.sandboxId)
    await removePod(world.cri, deaf.sandboxId)
  })

  it('is replaced in its sandbox by its next attempt', async () => {
    const pod = await start('attempts', ['false'])
    await untilExited(world.cri, pod.containerId)
    const next = containerConfig('main', world.image, IDLE, {
      metadata: { name: 'main', attempt: 1 },
      logPath: 'main/1.log',
    })
    const second = await createContainer(world.cri, pod.sandboxId, pod.sandbox, next)
    await world.cri.runtime.startContainer({ containerId: second })
    await world.cri.runtime.removeContainer({ containerId: pod.containerId })
    await world.cri.runtime.removeContainer({ containerId: pod.containerId })
    await assert.rejects(containerStatus(world.cri, pod.containerId), failsWith(status.NOT_FOUND))
    assert.equal((await containerStatus(world.cri, second)).metadata?.attempt, 1)
    await removePod(world.cri, pod.sandboxId)
  })

  it('goes with its sandbox when nobody stops it before', async () => {
    const pod = await start('together', IDLE)
    await world.cri.runtime.stopPodSandbox({ podSandboxId: pod.sandboxId })
    assert.equal((await containerStatus(world.cri, pod.containerId)).state, ContainerState.CONTAINER_EXITED)
    await world.cri.runtime.removePodSandbox({ podSandboxId: pod.sandboxId })
    await assert.rejects(containerStatus(world.cri, pod.containerId), failsWith(status.NOT_FOUND))
    await world.assertNothingLeft()
  })
})
