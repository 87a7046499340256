/** What a container may do on a node with cgroup version 2: devices, its own cgroup, processors of its own. */

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { chown, mkdir, readFile, stat } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { type ContainerConfig, type DeepPartial, NamespaceMode } from '#proto/generated/api.ts'
import { readLog, removePod, untilExited } from '../pods.ts'
import { openCommand, TRANSPORTS } from '../remote-command.ts'
import { initPid, leftoversOf, type NodePod, run, startNodePod, useNode } from './node.ts'
import { readCgroup, scopePath, systemctl } from './systemd.ts'

const IDLE = ['sleep', '1000']
const ALLOWED = [
  'io.cricket.writable-cgroup',
  'io.cricket.umask',
  'cpu-load-balancing.crio.io',
  'cpu-quota.crio.io',
  'irq-load-balancing.crio.io',
]

describe('a container on cgroup version 2', () => {
  const node = useNode({
    runtimes: {
      handlers: { runc: {}, quiet: { path: '/usr/sbin/runc', allowedAnnotations: ALLOWED, execCpuAffinity: 'first' } },
    },
    container: { systemd: 'detect' },
  })

  async function remove({ sandboxId, slice }: NodePod): Promise<void> {
    await removePod(node.cri, sandboxId)
    await systemctl('stop', slice)
    assert.deepEqual(await leftoversOf(node), [])
  }

  const output = async (pod: NodePod): Promise<string[]> => {
    await untilExited(node.cri, pod.containerId, 60_000)
    return (await readLog(pod.logPath)).map(({ content }) => content)
  }

  it('may use the devices that it was given, as they were given, and no others', async () => {
    const hostPath = ['/dev/cpu_dma_latency', '/dev/fuse', '/dev/tty0'].find((path) => existsSync(path)) ?? '/dev/tty0'
    // The disk of the machine, which root could read if only file modes counted.
    const numbers = (await readFile('/sys/block/vda/dev', 'utf8')).trim()
    const script = [
      ': < /dev/mine && echo readable',
      '(: > /dev/mine) 2>&1',
      `mknod /tmp/disk b ${numbers.replaceAll(':', ' ')} && echo made`,
      '(: < /tmp/disk) 2>&1',
      'mknod /tmp/null c 1 3 && : < /tmp/null && echo standard',
    ].join('; ')
    const container: DeepPartial<ContainerConfig> = {
      devices: [{ hostPath, containerPath: '/dev/mine', permissions: 'r' }],
      linux: { securityContext: { capabilities: { addCapabilities: ['MKNOD'] } } },
    }
    const pod = await startNodePod(node, 'devices', ['sh', '-c', script], { container })
    assert.deepEqual(
      (await output(pod)).map((line) => line.replace(/^sh: /, '')),
      [
        'readable',
        "can't create /dev/mine: Operation not permitted",
        'made',
        "can't open /tmp/disk: Operation not permitted",
        'standard',
      ],
    )
    await remove(pod)
  })

  it('of a pod with a user namespace has an id-mapped root file system and mounts', async () => {
    const ids = [{ hostId: 300_000, containerId: 0, length: 65_536 }]
    const namespaceOptions = {
      network: NamespaceMode.POD,
      pid: NamespaceMode.CONTAINER,
      ipc: NamespaceMode.POD,
      usernsOptions: { mode: NamespaceMode.POD, uids: ids, gids: ids },
    }
    const volume = node.site.path('volume')
    await mkdir(volume)
    await chown(volume, 0, 0)
    const pod = await startNodePod(node, 'users', IDLE, {
      pod: { securityContext: { namespaceOptions } },
      container: {
        linux: { securityContext: { namespaceOptions } },
        mounts: [
          { containerPath: '/mapped', hostPath: volume, uidMappings: ids, gidMappings: ids },
          { containerPath: '/plain', hostPath: volume },
        ],
      },
    })
    assert.equal((await stat(`/proc/${await initPid(node, pod)}`)).uid, 300_000)
    assert.match(await run(node, pod, 'cat', '/proc/self/uid_map'), /^0\s+300000\s+65536$/)
    const owners = await run(node, pod, 'stat', '-c', '%u:%g', '/', '/bin/busybox', '/home/app', '/mapped', '/plain')
    assert.equal(owners, '0:0\n0:0\n1000:1000\n0:0\n65534:65534')
    await run(node, pod, 'sh', '-c', 'echo x > /mapped/new && chown 7:8 /mapped/new && echo y > /etc/new')
    const made = await stat(`${volume}/new`)
    assert.deepEqual([made.uid, made.gid], [7, 8])
    await remove(pod)
  })

  it('may write to its own cgroup where that was asked for and allowed, and only then', async () => {
    const cmd = ['sh', '-c', 'mkdir /sys/fs/cgroup/child 2>/dev/null && echo made || echo refused']
    const annotations = { 'io.cricket.writable-cgroup': 'true', 'io.cricket.umask': '027' }
    const pod = await startNodePod(node, 'cgroup', IDLE, { handler: 'quiet', annotations })
    assert.equal(await run(node, pod, ...cmd), 'made')
    assert.match(await run(node, pod, 'cat', '/proc/1/status'), /^Umask:\t0027$/m)
    await run(node, pod, 'rmdir', '/sys/fs/cgroup/child')
    await remove(pod)
    const other = await startNodePod(node, 'no-cgroup', IDLE, { annotations })
    assert.equal(await run(node, other, ...cmd), 'refused')
    await remove(other)
  })

  it('has its processor for itself: no balancing, no limit of the pod, no interrupts; and gives it back', async () => {
    const annotations = {
      'cpu-load-balancing.crio.io': 'disable',
      'cpu-quota.crio.io': 'disable',
      'irq-load-balancing.crio.io': 'disable',
    }
    const affinity = async () => (await run(node, pod, 'cat', '/proc/irq/default_smp_affinity')).replace(/^0*/, '')
    const resources = { cpuShares: 1024n, cpuQuota: 100_000n, cpuPeriod: 100_000n, cpusetCpus: '1' }
    const options = { handler: 'quiet', annotations, isGuaranteed: true, container: { linux: { resources } } }
    const pod = await startNodePod(node, 'quiet', IDLE, options)
    const scope = scopePath(pod.slice, pod.containerId)
    assert.equal(await readCgroup(scope, 'cpuset.cpus.partition'), 'isolated')
    assert.equal(await readCgroup('/', 'cpuset.cpus.isolated'), '1')
    assert.match(await readCgroup(scope, 'cpu.max'), /^max /)
    assert.equal(await affinity(), '1')
    assert.match(await run(node, pod, 'cat', '/proc/self/status'), /^Cpus_allowed_list:\t1$/m)
    await remove(pod)
    assert.equal(await readCgroup('/', 'cpuset.cpus.isolated'), '')
    assert.equal(await readCgroup('/kubepods.slice', 'cpuset.cpus.exclusive').catch(() => ''), '')
    const other = await startNodePod(node, 'after', IDLE)
    assert.equal((await run(node, other, 'cat', '/proc/irq/default_smp_affinity')).replace(/^0*/, ''), '3')
    await remove(other)
  })

  it('has a terminal for a command that wants one, in its own cgroup', async () => {
    const pod = await startNodePod(node, 'terminal', IDLE)
    for (const transport of TRANSPORTS) {
      const asked = { tty: true, stdout: true }
      const cmd = ['sh', '-c', 'tty; cat /proc/self/cgroup; exit 7']
      const { url } = await node.cri.runtime.exec({ containerId: pod.containerId, cmd, ...asked })
      const command = await openCommand(transport, url, asked)
      assert.deepEqual(await command.ended, { code: 7 }, command.text())
      assert.match(command.text(), /^\/dev\/pts\/\d\r+\n0::\/\r+\n$/)
    }
    await remove(pod)
  })
})
