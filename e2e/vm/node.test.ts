/** Cricket on a node as clusters have them: cgroup v2, systemd, AppArmor; started by its unit, with its default paths. */

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { status } from '@grpc/grpc-js'
import {
  CgroupDriver,
  type ContainerConfig,
  ContainerState,
  type DeepPartial,
  NamespaceMode,
  SecurityProfile_ProfileType,
} from '#proto/generated/api.ts'
import { failsWith } from '../cri-client.ts'
import { containerConfig, containerStatus, type RunningPod, readLog, removePod, until, untilExited } from '../pods.ts'
import { initPid, leftoversOf, type NodePod, run, startNodePod, useNode } from './node.ts'
import {
  cgroupOf,
  cgroupsIn,
  containerScopes,
  readCgroup,
  scopePath,
  servicePid,
  systemctl,
  tool,
  unitProperties,
  untilServes,
} from './systemd.ts'

const IDLE = ['sleep', '1000']
/** Counts on stdout until it is told to stop, then exits with 3. */
const COUNT = ['sh', '-c', "trap 'exit 3' TERM; n=0; while :; do n=$((n+1)); echo $n; sleep 0.2; done"]
const MIB = 1_048_576n
const SHARED_PIDS = { network: NamespaceMode.POD, pid: NamespaceMode.POD, ipc: NamespaceMode.POD }

describe('a node with systemd', () => {
  const node = useNode()

  const start = (name: string, command: string[], container: DeepPartial<ContainerConfig> = {}) =>
    startNodePod(node, name, command, { container })

  /** Removes the pod, then its slice as the kubelet does, and proves that systemd knows nothing of it any more. */
  async function remove({ sandboxId, slice }: NodePod): Promise<void> {
    await removePod(node.cri, sandboxId)
    await systemctl('stop', slice)
    assert.deepEqual(await containerScopes(), [])
    assert.deepEqual(await leftoversOf(node), [])
  }

  describe('its service', () => {
    it('is up once the daemon says so, and set up to outlive what happens', async () => {
      const unit = await unitProperties(
        'cricket',
        ...['ActiveState', 'SubState', 'Type', 'KillMode', 'Delegate', 'OOMScoreAdjust', 'OOMPolicy'],
        ...['LimitNOFILE', 'TasksMax', 'WatchdogUSec', 'Restart'],
      )
      assert.deepEqual(unit, {
        ...{ ActiveState: 'active', SubState: 'running', Type: 'notify', KillMode: 'process', Delegate: 'yes' },
        ...{ OOMScoreAdjust: '-999', OOMPolicy: 'continue', LimitNOFILE: '1048576' },
        ...{ TasksMax: 'infinity', WatchdogUSec: '1min', Restart: 'always' },
      })
      const { exitCode, stdout } = await tool('systemd-analyze', ['verify', 'cricket.service'], {
        all: true,
        reject: false,
      })
      assert.equal(exitCode, 0, stdout)
    })

    it('tells the kubelet its cgroup driver', async () => {
      const { linux } = await node.cri.runtime.runtimeConfig({})
      assert.equal(linux?.cgroupDriver, CgroupDriver.SYSTEMD)
    })
  })

  describe('a pod', () => {
    it('lives in a scope in its slice, and goes without a trace', async () => {
      const pod = await start('life', ['sh', '-c', 'echo begun; echo complaint >&2; exec sleep 1000'])
      const scope = scopePath(pod.slice, pod.containerId)
      const pid = await initPid(node, pod)
      assert.equal(await cgroupOf(pid), scope)
      const unit = await unitProperties(`cricket-${pod.containerId}.scope`, 'ActiveState', 'Slice')
      assert.deepEqual(unit, { ActiveState: 'active', Slice: pod.slice })
      assert.equal(await run(node, pod, 'cat', '/proc/self/cgroup'), '0::/', 'it has a cgroup namespace of its own')
      assert.equal(
        await run(node, pod, 'sh', '-c', 'cat /etc/hostname; touch /sys/fs/cgroup/x || echo refused'),
        'life\nrefused',
      )
      const log = await until('both lines are in the log', 10_000, async () => {
        const records = await readLog(pod.logPath)
        return records.length === 2 ? records : undefined
      })
      assert.deepEqual(log.map(({ stream, content }) => `${stream} ${content}`).sort(), [
        'stderr complaint',
        'stdout begun',
      ])
      await node.cri.runtime.stopContainer({ containerId: pod.containerId, timeout: 1n })
      assert.equal((await containerStatus(node.cri, pod.containerId)).exitCode, 137)
      assert.deepEqual(await containerScopes(), [], 'the scope goes with the container')
      await remove(pod)
    })

    it('of user 1000 reads the files that the daemon makes for it, whatever the umask of the service', async () => {
      const pod = await start('user', IDLE, { linux: { securityContext: { runAsUser: { value: 1000n } } } })
      const read = await run(node, pod, 'cat', '/etc/hosts', '/etc/resolv.conf', '/etc/hostname', '/greeting')
      assert.match(read, /127\.0\.0\.1[\s\S]*nameserver[\s\S]*user[\s\S]*hello/)
      await run(node, pod, 'sh', '-c', 'ls / /etc && echo x > /dev/shm/mine && echo x > /tmp/mine')
      await remove(pod)
    })

    it('runs by crun, too', async () => {
      const pod = await startNodePod(node, 'crun', IDLE, { handler: 'crun' })
      // crun makes a cgroup of its own in the scope.
      const scope = scopePath(pod.slice, pod.containerId)
      assert.ok([scope, `${scope}/container`].includes(await cgroupOf(await initPid(node, pod))))
      assert.equal(await run(node, pod, 'cat', '/proc/1/comm'), 'sleep')
      await remove(pod)
    })

    it('shares its processes when asked to', async () => {
      const pod = await startNodePod(node, 'shared', IDLE, {
        container: { linux: { securityContext: { namespaceOptions: SHARED_PIDS } } },
        pod: { securityContext: { namespaceOptions: SHARED_PIDS } },
      })
      assert.match(await run(node, pod, 'cat', '/proc/1/comm'), /^(init|catatonit)$/)
      assert.equal(
        (await cgroupsIn(scopePath(pod.slice, '').replace(/\/[^/]*$/, ''))).length,
        2,
        'its init has a scope, too',
      )
      await remove(pod)
    })
  })

  describe('limits', () => {
    const resources = (limits: NonNullable<NonNullable<ContainerConfig['linux']>['resources']> | object) => ({
      linux: { resources: { oomScoreAdj: 1000n, ...limits } },
    })

    it('of memory, CPU and processes are set, seen inside, reported', async () => {
      const limits = {
        ...{ cpuPeriod: 100_000n, cpuQuota: 50_000n, cpuShares: 512n, memoryLimitInBytes: 64n * MIB },
        unified: { 'pids.max': '30', 'memory.oom.group': '1' },
      }
      const pod = await start('limits', IDLE, resources(limits))
      const scope = scopePath(pod.slice, pod.containerId)
      const files = ['memory.max', 'memory.swap.max', 'memory.oom.group', 'cpu.max', 'cpu.weight', 'pids.max']
      const values = Object.fromEntries(
        await Promise.all(files.map(async (file) => [file, await readCgroup(scope, file)])),
      )
      const weight = Number(values['cpu.weight'])
      assert.ok(weight > 10 && weight < 100, `half of the default shares are less than the default weight: ${weight}`)
      assert.deepEqual(values, {
        ...{ 'memory.max': String(64n * MIB), 'memory.swap.max': '0', 'memory.oom.group': '1' },
        ...{ 'cpu.max': '50000 100000', 'cpu.weight': String(weight), 'pids.max': '30' },
      })
      assert.equal(await run(node, pod, 'cat', '/sys/fs/cgroup/memory.max'), String(64n * MIB))
      const reported = (await containerStatus(node.cri, pod.containerId)).resources?.linux
      assert.equal(reported?.memoryLimitInBytes, limits.memoryLimitInBytes)
      assert.equal(reported?.cpuQuota, limits.cpuQuota)
      assert.equal(reported?.cpuShares, limits.cpuShares)
      assert.deepEqual(reported?.unified, limits.unified)
      await systemctl('daemon-reload')
      assert.equal(await readCgroup(scope, 'memory.max'), String(64n * MIB), 'systemd knows them, too, and leaves them')
      await remove(pod)
    })

    it('of CPU time hold', async () => {
      const pod = await start(
        'cpu',
        ['sh', '-c', 'while :; do :; done'],
        resources({ cpuPeriod: 100_000n, cpuQuota: 20_000n }),
      )
      const scope = scopePath(pod.slice, pod.containerId)
      const throttled = await until('it is throttled', 30_000, async () => {
        const count = Number(/^nr_throttled (\d+)$/m.exec(await readCgroup(scope, 'cpu.stat'))?.[1])
        return count > 3 ? count : undefined
      })
      assert.ok(throttled > 3)
      await remove(pod)
    })

    it('of processes hold', async () => {
      // A shell whose fork is refused gives up: not the first process, or the cgroup goes before it is read.
      const forks = 'n=0; while [ $n -lt 40 ]; do sleep 1000 & n=$((n+1)); done'
      const script = `sh -c '${forks}'; exec sleep 1000`
      const pod = await start('pids', ['sh', '-c', script], resources({ unified: { 'pids.max': '20' } }))
      const scope = scopePath(pod.slice, pod.containerId)
      await until('a fork was refused', 30_000, async () =>
        /^max [1-9]/m.test(await readCgroup(scope, 'pids.events')) ? true : undefined,
      )
      assert.ok(Number(await readCgroup(scope, 'pids.peak')) <= 20)
      await remove(pod)
    })

    const hog = 'head -c 100000000 /dev/zero | tail'
    const oom: [string, string, Record<string, string>][] = [
      ['a child of the container', `${hog}; exit 9`, {}],
      ['the whole container, when the kubelet wants it so', `${hog}; sleep 1000`, { 'memory.oom.group': '1' }],
      ['the first process', `exec awk 'BEGIN { s = "x"; while (1) s = s s }'`, {}],
    ]
    for (const [victim, script, unified] of oom) {
      it(`of memory hold: ${victim} is killed, and the reason told`, async () => {
        const pod = await start('oom', ['sh', '-c', script], resources({ memoryLimitInBytes: 16n * MIB, unified }))
        const ended = await untilExited(node.cri, pod.containerId, 60_000)
        assert.equal(ended.reason, 'OOMKilled')
        assert.equal(ended.exitCode, victim.startsWith('a child') ? 9 : 137)
        await remove(pod)
      })
    }

    it('are changed while the container runs, and stay over a reload of systemd', async () => {
      const pod = await start(
        'update',
        IDLE,
        resources({ memoryLimitInBytes: 64n * MIB, cpuPeriod: 100_000n, cpuQuota: 50_000n }),
      )
      const scope = scopePath(pod.slice, pod.containerId)
      const linux = { memoryLimitInBytes: 96n * MIB, cpuQuota: 70_000n, cpuPeriod: 100_000n }
      await node.cri.runtime.updateContainerResources({
        containerId: pod.containerId,
        linux: containerConfig('x', 'x', [], { linux: { resources: linux } }).linux?.resources,
      })
      await systemctl('daemon-reload')
      assert.equal(await readCgroup(scope, 'memory.max'), String(96n * MIB))
      assert.equal(await readCgroup(scope, 'cpu.max'), '70000 100000')
      const reported = (await containerStatus(node.cri, pod.containerId)).resources?.linux
      assert.equal(reported?.memoryLimitInBytes, 96n * MIB)
      await remove(pod)
    })
  })

  describe('stopping', () => {
    it('takes a whole tree, with what has left its session and ignores every signal', async () => {
      const stubborn =
        "trap '' TERM INT HUP; (setsid sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' &) ; while :; do sleep 0.1; done"
      const pod = await startNodePod(node, 'tree', ['sh', '-c', stubborn], {
        container: { linux: { securityContext: { namespaceOptions: SHARED_PIDS } } },
        pod: { securityContext: { namespaceOptions: SHARED_PIDS } },
      })
      const scope = scopePath(pod.slice, pod.containerId)
      const all = await until('the tree has grown', 20_000, async () => {
        const pids = (await readCgroup(scope, 'cgroup.procs')).split('\n').map(Number)
        return pids.length >= 3 ? pids : undefined
      })
      await node.cri.runtime.stopContainer({ containerId: pod.containerId, timeout: 1n })
      assert.equal((await containerStatus(node.cri, pod.containerId)).state, ContainerState.CONTAINER_EXITED)
      const alive = await Promise.all(all.map((pid) => cgroupOf(pid).catch(() => '')))
      assert.deepEqual(
        alive.filter((path) => path.startsWith(scope)),
        [],
      )
      assert.ok(!(await containerScopes()).includes(`cricket-${pod.containerId}.scope`))
      await remove(pod)
    })

    it('ends an ExecSync at its deadline with all it started', async () => {
      const pod = await start('deadline', IDLE)
      const call = node.cri.runtime.execSync({
        containerId: pod.containerId,
        cmd: ['sh', '-c', 'setsid sleep 4321 & sleep 4322'],
        timeout: 3n,
      })
      await assert.rejects(call, failsWith(status.DEADLINE_EXCEEDED))
      const scope = scopePath(pod.slice, pod.containerId)
      await until('only the container itself is left', 20_000, async () =>
        (await readCgroup(scope, 'cgroup.procs')).split('\n').length === 1 ? true : undefined,
      )
      await remove(pod)
    })
  })

  describe('a new daemon', () => {
    const counted = async (pod: RunningPod) => (await readLog(pod.logPath)).map(({ content }) => content)

    async function assertGoesOn(pod: RunningPod, pid: number): Promise<void> {
      assert.equal(await initPid(node, pod), pid)
      const before = (await counted(pod)).length
      await until('it goes on counting', 20_000, async () => ((await counted(pod)).length > before ? true : undefined))
      assert.equal(await run(node, pod, 'cat', '/proc/1/comm'), 'sh')
    }

    it('finds its containers running after a restart, and after a crash', async () => {
      const pod = await start('restart', COUNT)
      const pid = await initPid(node, pod)
      const first = await servicePid()
      await systemctl('restart', 'cricket')
      node.cri = await untilServes(first)
      await assertGoesOn(pod, pid)
      const second = await servicePid()
      process.kill(second, 'SIGKILL')
      node.cri = await untilServes(second)
      await assertGoesOn(pod, pid)
      await node.cri.runtime.stopContainer({ containerId: pod.containerId, timeout: 10n })
      const ended = await containerStatus(node.cri, pod.containerId)
      assert.equal(ended.exitCode, 3)
      const numbers = await counted(pod)
      assert.deepEqual(
        numbers,
        numbers.map((_, index) => String(index + 1)),
        'no line is missing or doubled',
      )
      await remove(pod)
    })

    it('learns what happened while there was none', async () => {
      const pod = await start('meanwhile', ['sh', '-c', 'while [ ! -e /go ]; do sleep 0.1; done; echo went; exit 4'])
      const pid = await initPid(node, pod)
      await systemctl('stop', 'cricket')
      await tool('touch', [`/proc/${pid}/root/go`])
      await until('the container has ended', 20_000, async () =>
        (await containerScopes()).length === 0 ? true : undefined,
      )
      await sleep(500)
      await systemctl('start', 'cricket')
      node.cri = await untilServes()
      const ended = await untilExited(node.cri, pod.containerId)
      assert.equal(ended.exitCode, 4)
      assert.deepEqual(await counted(pod), ['went'])
      await remove(pod)
    })

    it('leaves no unit in a failed state, and needs no further start', async () => {
      assert.equal(await systemctl('list-units', '--failed', '--plain', '--no-legend'), '')
      assert.equal((await unitProperties('cricket', 'NRestarts')).NRestarts, '0')
    })
  })

  describe('confinement', () => {
    const { RuntimeDefault, Unconfined, Localhost } = SecurityProfile_ProfileType
    const apparmor = (profileType: SecurityProfile_ProfileType, localhostRef = '') => ({
      apparmor: { profileType, localhostRef },
    })
    const secured = (securityContext: object) => ({ linux: { securityContext } })
    const profileOf = (pod: RunningPod) => run(node, pod, 'cat', '/proc/self/attr/current')

    it('is by the default AppArmor profile, for commands too, unless said otherwise', async () => {
      for (const context of [{}, apparmor(RuntimeDefault)]) {
        const pod = await start('default', IDLE, secured(context))
        assert.equal(await profileOf(pod), 'cricket-default (enforce)')
        const init = await readFile(`/proc/${await initPid(node, pod)}/attr/current`, 'utf8')
        assert.equal(init.trim(), 'cricket-default (enforce)')
        await remove(pod)
      }
      for (const context of [apparmor(Unconfined), { privileged: true }]) {
        const pod = await startNodePod(node, 'unconfined', IDLE, {
          container: secured(context),
          pod: {
            securityContext: { privileged: true, namespaceOptions: { ...SHARED_PIDS, pid: NamespaceMode.CONTAINER } },
          },
        })
        assert.equal(await profileOf(pod), 'unconfined')
        await remove(pod)
      }
    })

    it('by that profile forbids mounts even to who has the capability', async () => {
      const script = 'mkdir -p /m; mount -t tmpfs none /m 2>&1 && echo mounted; true'
      const context = { capabilities: { addCapabilities: ['SYS_ADMIN'] } }
      const results = []
      for (const profile of [RuntimeDefault, Unconfined]) {
        const pod = await start('mount', IDLE, secured({ ...context, ...apparmor(profile) }))
        results.push(await run(node, pod, 'sh', '-c', script))
        await remove(pod)
      }
      const [confined = '', unconfined = ''] = results
      assert.match(confined, /denied/)
      assert.equal(unconfined, 'mounted')
    })

    it('by that profile lets ordinary programs work', async () => {
      const pod = await start('ordinary', IDLE)
      const script = [
        ...[
          'sleep 100 & kill $!',
          'echo x > /tmp/f',
          'mv /tmp/f /tmp/g',
          'ln -s g /tmp/h',
          'cat /tmp/h',
          'ps > /dev/null',
        ],
        ...['echo 1000 > /proc/self/oom_score_adj', 'ls /proc/1/fd > /dev/null', 'hostname > /dev/null', 'echo done'],
      ]
      assert.equal(await run(node, pod, 'sh', '-ec', script.join('; ')), 'x\ndone')
      await remove(pod)
    })

    it('by a profile of the node is applied; by one that is not loaded, refused', async () => {
      await tool('apparmor_parser', ['--replace', '--skip-cache'], {
        input:
          'profile vm-test flags=(attach_disconnected) { file, signal, ptrace, network, capability, deny /etc/hosts r, }',
      })
      const pod = await start('localhost', IDLE, secured(apparmor(Localhost, 'vm-test')))
      assert.equal(await profileOf(pod), 'vm-test (enforce)')
      await assert.rejects(run(node, pod, 'cat', '/etc/hosts'))
      await remove(pod)
      await assert.rejects(start('missing', IDLE, secured(apparmor(Localhost, 'not-there'))), /not-there|apparmor/i)
      for (const { id } of (await node.cri.runtime.listPodSandbox({})).items) await removePod(node.cri, id)
      assert.deepEqual(await containerScopes(), [])
    })

    it('by the default seccomp profile when asked for', async () => {
      const profile = (profileType: SecurityProfile_ProfileType) =>
        secured({ seccomp: { profileType, localhostRef: '' } })
      const script = 'grep Seccomp: /proc/self/status; unshare -U true 2>/dev/null && echo unshared; true'
      const confined = await start('seccomp', IDLE, profile(RuntimeDefault))
      assert.match(await run(node, confined, 'sh', '-c', script), /^Seccomp:\s2$/)
      await remove(confined)
      const free = await start('no-seccomp', IDLE, profile(Unconfined))
      assert.match(await run(node, free, 'sh', '-c', script), /^Seccomp:\s0\nunshared$/)
      await remove(free)
    })
  })
})
