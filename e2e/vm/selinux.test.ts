/** Containers on a node on which SELinux enforces: their labels are real, and keep pods from each other's files. */

import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import {
  type ContainerConfig,
  type DeepPartial,
  type LinuxPodSandboxConfig,
  NamespaceMode,
} from '#proto/generated/api.ts'
import { failsWith } from '../cri-client.ts'
import { containerConfig, createContainer, readLog, removeAllPods, removePod, untilExited } from '../pods.ts'
import { initPid, leftoversOf, type NodePod, run, startNodePod, useNode } from './node.ts'
import { systemctl, tool } from './systemd.ts'

const IDLE = ['sleep', '1000']
const LEVEL = /^s0:c\d+,c\d+$/

describe('a node on which SELinux enforces', () => {
  const node = useNode()

  const start = (
    name: string,
    container: DeepPartial<ContainerConfig> = {},
    securityContext: NonNullable<DeepPartial<LinuxPodSandboxConfig>['securityContext']> = {},
  ): Promise<NodePod> => {
    const namespaceOptions = { network: NamespaceMode.POD, pid: NamespaceMode.CONTAINER, ipc: NamespaceMode.POD }
    const pod = { securityContext: { namespaceOptions, ...securityContext } }
    return startNodePod(node, name, IDLE, { container, pod })
  }

  async function remove(...pods: NodePod[]): Promise<void> {
    for (const { sandboxId, slice } of pods) {
      await removePod(node.cri, sandboxId)
      await systemctl('stop', slice)
    }
    assert.deepEqual(await leftoversOf(node), [])
  }

  const label = (text: string): { domain: string; level: string } => {
    const [user, role, type, ...level] = text.replaceAll('\0', '').trim().split(':')
    return { domain: `${user}:${role}:${type}`, level: level.join(':') }
  }
  const processLabel = async (pod: NodePod, pid = 'self') =>
    label(await run(node, pod, 'cat', `/proc/${pid}/attr/current`))
  const fileLabel = async (path: string) => label((await tool('stat', ['-c', '%C', path])).stdout)
  const makeVolume = async (name: string): Promise<string> => {
    const volume = node.site.path(name)
    await mkdir(volume)
    await writeFile(`${volume}/file`, 'content')
    return volume
  }
  const mounting = (hostPath: string, selinuxRelabel: boolean): DeepPartial<ContainerConfig> => ({
    mounts: [{ containerPath: '/v', hostPath, selinuxRelabel }],
  })
  const denied = (work: Promise<string>) => assert.rejects(work, /Permission denied/)

  it('is one', async () => {
    assert.equal(await readFile('/sys/fs/selinux/enforce', 'utf8'), '1')
  })

  it('gives each pod a level of its own, which its processes, commands and files have', async () => {
    const [one, other] = [await start('one'), await start('other')]
    const { domain, level } = await processLabel(one)
    assert.equal(domain, 'system_u:system_r:container_t')
    assert.match(level, LEVEL)
    assert.deepEqual(await processLabel(one, '1'), { domain, level })
    const root = `/proc/${await initPid(node, one)}/root`
    for (const path of ['/', '/bin/busybox', '/etc/hosts', '/etc/hostname', '/dev/shm', '/dev/null', '/dev/pts']) {
      assert.deepEqual(await fileLabel(root + path), { domain: 'system_u:object_r:container_file_t', level }, path)
    }
    const script = 'echo x > /dev/shm/x; echo y > /tmp/y; cat /dev/shm/x /tmp/y; head -c 9 /etc/hosts'
    assert.equal(await run(node, one, 'sh', '-c', script), 'x\ny\n127.0.0.1')
    const theirs = await processLabel(other)
    assert.match(theirs.level, LEVEL)
    assert.notEqual(theirs.level, level)
    await remove(one, other)
  })

  it('runs all containers of a pod at one level, and those with a terminal', async () => {
    const pod = await start('two')
    const config = containerConfig('second', node.image, ['cat', '/proc/self/attr/current', '/dev/tty'], { tty: true })
    const containerId = await createContainer(node.cri, pod.sandboxId, pod.sandbox, {
      ...config,
      command: ['sh', '-c', 'tty; cat /proc/self/attr/current'],
    })
    await node.cri.runtime.startContainer({ containerId })
    await untilExited(node.cri, containerId, 60_000)
    const lines = await readLog(`${pod.sandbox.logDirectory}/${config.logPath}`)
    const [terminal = '', text = ''] = lines.map(({ content }) => content.trim())
    assert.equal(terminal, '/dev/pts/0')
    assert.deepEqual(label(text), await processLabel(pod))
    await remove(pod)
  })

  it('keeps containers from files of the node, and from volumes of other pods', async () => {
    const volume = await makeVolume('volume')
    const unlabelled = await start('unlabelled', mounting(volume, false))
    await denied(run(node, unlabelled, 'cat', '/v/file'))
    const owner = await start('owner', mounting(volume, true))
    assert.equal(await run(node, owner, 'sh', '-c', 'echo more >> /v/file; cat /v/file'), 'contentmore')
    const { level } = await processLabel(owner)
    assert.deepEqual(await fileLabel(`${volume}/file`), { domain: 'system_u:object_r:container_file_t', level })
    await denied(run(node, unlabelled, 'cat', '/v/file'))
    const friend = await start('friend', mounting(volume, false), { selinuxOptions: { level } })
    assert.equal((await processLabel(friend)).level, level)
    assert.equal(await run(node, friend, 'cat', '/v/file'), 'contentmore')
    // Whoever relabels it last has it.
    const thief = await start('thief', mounting(volume, true))
    assert.equal(await run(node, thief, 'cat', '/v/file'), 'contentmore')
    await denied(run(node, owner, 'cat', '/v/file'))
    await remove(unlabelled, owner, friend, thief)
  })

  it('B9: never relabels what belongs to itself', async () => {
    const places = ['/', '/etc', '/etc/hosts', '/usr', '/home', '/var/lib/cricket', '/run/cricket']
    const labels = () => Promise.all(places.map(fileLabel))
    const before = await labels()
    for (const place of places) {
      await assert.rejects(
        start('node', mounting(place, true)),
        failsWith(status.INVALID_ARGUMENT, /belongs to the node and is never relabelled/),
        place,
      )
    }
    await removeAllPods(node.cri)
    assert.deepEqual(await labels(), before)
  })

  it('does not confine what is privileged', async () => {
    const volume = await makeVolume('private')
    const container = { ...mounting(volume, false), linux: { securityContext: { privileged: true } } }
    const pod = await start('privileged', container, { privileged: true })
    assert.deepEqual(await processLabel(pod), { domain: 'system_u:system_r:spc_t', level: 's0' })
    assert.equal(await run(node, pod, 'cat', '/v/file'), 'content')
    await remove(pod)
  })

  it('refuses a label that its policy does not know', async () => {
    const container = { linux: { securityContext: { selinuxOptions: { type: 'nonesuch_t' } } } }
    await assert.rejects(start('unknown', container), failsWith(status.FAILED_PRECONDITION, /nonesuch_t|label|attr/))
    await removeAllPods(node.cri)
  })

  const sharing = { network: NamespaceMode.POD, pid: NamespaceMode.POD, ipc: NamespaceMode.POD }

  it('runs the init of a pod at the level of the pod', async () => {
    const security = { namespaceOptions: sharing }
    const pod = await start('shared', { linux: { securityContext: security } }, security)
    const init = label(await run(node, pod, 'cat', '/proc/1/attr/current'))
    assert.deepEqual(init, await processLabel(pod))
    await remove(pod)
  })

  it('confines pods with a user namespace as well', async () => {
    const ids = [{ hostId: 300_000, containerId: 0, length: 65_536 }]
    const usernsOptions = { mode: NamespaceMode.POD, uids: ids, gids: ids }
    const mapped = { namespaceOptions: { ...sharing, pid: NamespaceMode.CONTAINER, usernsOptions } }
    const pod = await start('users', { linux: { securityContext: mapped } }, mapped)
    assert.equal((await processLabel(pod)).domain, 'system_u:system_r:container_t')
    assert.equal(await run(node, pod, 'sh', '-c', 'echo x > /etc/new; cat /etc/new'), 'x')
    await remove(pod)
  })
})
