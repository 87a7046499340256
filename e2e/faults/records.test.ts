/** What a power cut, a bad disk or an operator can do to the daemon's records (rows P4 to P8). */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ContainerState, PodSandboxState } from '#proto/generated/api.ts'
import { processesOf } from '../leftovers.ts'
import { containerConfig, containerStatus, podConfig, type RunningPod, startPod, until } from '../pods.ts'
import { hostContainer, hostPod, IDLE, useFaultyWorld } from './faulty-world.ts'

describe('a record on disk', () => {
  const faulty = useFaultyWorld()
  const { world } = faulty

  const file = (kind: 'sandboxes' | 'containers', id: string, name: string) => world.site.path('root', kind, id, name)
  const damages: [string, (path: string) => Promise<unknown>][] = [
    ['empty', (path) => truncate(path, 0)],
    ['cut', async (path) => truncate(path, Math.trunc((await readFile(path)).length / 2))],
    ['full of NULs', async (path) => writeFile(path, Buffer.alloc((await readFile(path)).length))],
    [
      'changed by a bit',
      async (path) => writeFile(path, (await readFile(path, 'utf8')).replace(/"(\w)\w{3}/g, '"$1x')),
    ],
    ['of another version', async (path) => writeFile(path, '{"version":99}')],
    ['of other types', (path) => writeFile(path, '{"version":1,"id":[],"key":7,"state":{}}')],
    ['1 GiB long', (path) => truncate(path, 1024 ** 3)],
    [
      'a directory',
      async (path) => {
        await rm(path)
        await mkdir(path)
      },
    ],
    [
      'a symbolic link to nowhere',
      async (path) => {
        await rm(path)
        await symlink('/nonexistent', path)
      },
    ],
  ]
  for (const [what, damage] of damages) {
    it(`P4, P5: that is ${what} costs its own object only, and the daemon starts`, async () => {
      const good = await startPod(world.cri, await hostPod(world, 'good'), hostContainer(world))
      const bad: RunningPod[] = []
      for (const name of ['bad-container', 'bad-sandbox', 'bad-status', 'bad-pod-status'])
        bad.push(await startPod(world.cri, await hostPod(world, name), hostContainer(world)))
      const [badContainer, badSandbox, badStatus, badPodStatus] = bad
      assert.ok(badContainer && badSandbox && badStatus && badPodStatus)
      await world.runtime.kill()
      await damage(file('containers', badContainer.containerId, 'config.json'))
      await damage(file('sandboxes', badSandbox.sandboxId, 'config.json'))
      await damage(file('containers', badStatus.containerId, 'status.json'))
      await damage(file('sandboxes', badPodStatus.sandboxId, 'status.json'))
      await world.runtime.start()
      const alive = await containerStatus(world.cri, good.containerId)
      assert.equal(alive.state, ContainerState.CONTAINER_RUNNING)
      const { items } = await world.cri.runtime.listPodSandbox({})
      assert.ok(items.some(({ id }) => id === good.sandboxId))
      const { containers } = await world.cri.runtime.listContainers({})
      // A link that leads nowhere is like no file: the status was never written.
      if (what !== 'a symbolic link to nowhere') {
        const { exitCode, reason } = await containerStatus(world.cri, badStatus.containerId)
        assert.deepEqual([exitCode, reason], [255, 'Unknown'])
        assert.equal(items.find(({ id }) => id === badPodStatus.sandboxId)?.state, PodSandboxState.SANDBOX_NOTREADY)
      }
      const listed = containers.filter(({ state }) => state === ContainerState.CONTAINER_RUNNING).length
      await until('what runs is listed', 10_000, async () => {
        const running = (await processesOf(world.site, [])).filter(({ name }) => name === IDLE.join(' '))
        return running.length === listed || undefined
      })
      // The kubelet comes again for all of them.
      for (const { id } of containers) await world.cri.runtime.removeContainer({ containerId: id })
      await startPod(world.cri, { ...badSandbox.sandbox }, hostContainer(world))
      await faulty.assertAllGoes()
    })
  }

  it('P4: of an exit that is damaged is an exit of 255, and the daemon goes on', async () => {
    const pod = await startPod(world.cri, await hostPod(world, 'exit'), hostContainer(world))
    await world.runtime.kill()
    await writeFile(world.site.path('state/containers', pod.containerId, 'exit.json'), '{"half')
    await world.runtime.start()
    const status = await containerStatus(world.cri, pod.containerId)
    assert.deepEqual([status.state, status.exitCode], [ContainerState.CONTAINER_EXITED, 255])
    await faulty.assertAllGoes()
  })

  it('R3: of a stopped pod that says ready, because the disk took nothing newer, does not make it ready again', async () => {
    const pod = await startPod(
      world.cri,
      await podConfig(world.site, 'bare'),
      containerConfig('main', world.image, IDLE),
    )
    const path = file('sandboxes', pod.sandboxId, 'status.json')
    const before = await readFile(path)
    await world.cri.runtime.stopPodSandbox({ podSandboxId: pod.sandboxId })
    await world.runtime.kill()
    await writeFile(path, before)
    await world.runtime.start()
    const { items } = await world.cri.runtime.listPodSandbox({})
    assert.equal(items[0]?.state, PodSandboxState.SANDBOX_NOTREADY)
    await faulty.assertAllGoes()
  })

  it('P6: of another boot ends its container as 255 Unknown and gives the address back', async () => {
    // Rules of a plugin end with the kernel that holds them; here they would stay.
    const network = join(world.site.network.configDir, '10-pods.conflist')
    await writeFile(network, (await readFile(network, 'utf8')).replace('"ipMasq": true', '"ipMasq": false'))
    await sleep(1500)
    const sandbox = await podConfig(world.site, 'rebooted')
    const pod = await startPod(world.cri, sandbox, containerConfig('main', world.image, IDLE))
    await world.runtime.kill()
    // As after a reboot: no process, no mount, no cgroup, no file under `state`; the records tell of another boot.
    await sweepSparingAddresses()
    for (const [kind, id] of [
      ['sandboxes', pod.sandboxId],
      ['containers', pod.containerId],
    ] as const) {
      const path = file(kind, id, 'config.json')
      await edit(path, (text) => text.replace(/"bootId": "[^"]+"/, '"bootId": "earlier"'))
    }
    await world.runtime.start()
    const status = await containerStatus(world.cri, pod.containerId)
    assert.deepEqual([status.state, status.exitCode, status.reason], [ContainerState.CONTAINER_EXITED, 255, 'Unknown'])
    const { items } = await world.cri.runtime.listPodSandbox({})
    assert.equal(items[0]?.state, PodSandboxState.SANDBOX_NOTREADY)
    // The kubelet makes the next attempt beside the old one, which it removes later.
    const metadata = sandbox.metadata && { ...sandbox.metadata, attempt: 1 }
    await startPod(world.cri, { ...sandbox, metadata }, containerConfig('main', world.image, IDLE))
    await world.cri.runtime.stopPodSandbox({ podSandboxId: pod.sandboxId })
    await world.cri.runtime.removePodSandbox({ podSandboxId: pod.sandboxId })
    await faulty.assertAllGoes()
  })

  /** A change that nobody can tell from what was written: with a seal of its own. */
  async function edit(path: string, change: (record: string) => string): Promise<void> {
    const record = change((await readFile(path, 'utf8')).replace(/^.*?"record":/, '').slice(0, -2))
    const sha256 = createHash('sha256').update(record).digest('hex')
    await writeFile(path, `{"bytes":${Buffer.byteLength(record)},"sha256":"${sha256}","record":${record}}\n`)
  }

  /** Processes, mounts, cgroups and files go; the addresses that a plugin wrote down stay. */
  async function sweepSparingAddresses(): Promise<void> {
    const { site, registry } = world
    for (const { pid } of await processesOf(site, [registry.pid])) process.kill(pid, 'SIGKILL')
    await until('the processes are gone', 5000, async () =>
      (await processesOf(site, [registry.pid])).length === 0 ? true : undefined,
    )
    const sweep = `grep -o '${site.dir}/[^ ]*' /proc/self/mountinfo | tac | xargs -r -n1 umount -l 2>/dev/null
      find /sys/fs/cgroup -depth -type d -path '*${site.cgroupParent}/*' -exec rmdir {} + 2>/dev/null; true`
    execFileSync('/bin/sh', ['-c', sweep])
    await rm(site.path('state'), { recursive: true })
  }

  it('P8: of another machine is refused, with what to do; without pods the disk is anybody’s', async (t) => {
    const own = (await readFile('/etc/machine-id', 'utf8').catch(() => '')).trim()
    if (own === '') return t.skip('host lacks /etc/machine-id')
    await startPod(world.cri, await hostPod(world, 'copied'), hostContainer(world))
    await world.runtime.kill()
    const claim = world.site.path('root/machine-id')
    assert.equal((await readFile(claim, 'utf8')).trim(), own)
    await writeFile(claim, `${'0'.repeat(32)}\n`)
    await assert.rejects(world.runtime.start(), /of another machine.*machine-id/)
    await writeFile(claim, `${own}\n`)
    await world.runtime.start()
    await faulty.assertAllGoes()
    await world.runtime.stop()
    await writeFile(claim, `${'0'.repeat(32)}\n`)
    await world.runtime.start()
    assert.equal((await readFile(claim, 'utf8')).trim(), own)
  })

  it('P7: that an operator deleted with all others leaves nothing running, and the daemon starts', async () => {
    await startPod(world.cri, await hostPod(world, 'wiped'), hostContainer(world))
    await world.runtime.kill()
    await rm(world.site.path('root/sandboxes'), { recursive: true })
    await rm(world.site.path('root/containers'), { recursive: true })
    await world.runtime.start()
    assert.deepEqual((await world.cri.runtime.listContainers({})).containers, [])
    await faulty.assertAllGoes()
  })
})
