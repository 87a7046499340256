/** What some nodes do beyond the CRI: by configuration, and by the annotations that a handler allows; seen from inside. */

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { chmod, mkdir, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { type ContainerConfig, type DeepPartial, LinuxContainerResources } from '#proto/generated/api.ts'
import { type KernelLimits, kernelLimits } from './cgroup-files.ts'
import { CriError, failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { untilExited } from './pods.ts'
import { see } from './see.ts'

const RUNC = '/usr/sbin/runc'
const resources = (rest: object): DeepPartial<ContainerConfig> => ({
  linux: { resources: rest, securityContext: { namespaceOptions: { pid: 1 } } },
})

describe('annotations of a pod', () => {
  const world = useWorld({
    config: {
      sections: {
        runtimes: {
          handlers: {
            runc: {},
            open: { path: RUNC, allowedAnnotations: ['umask.crio.io', 'io.cricket.devices', 'com.example.*'] },
          },
        },
        container: { allowedDevices: ['/dev/fuse'] },
      },
    },
  })

  it('set the umask where the handler allows it, by any name, and not elsewhere', async () => {
    const script = 'umask; touch /tmp/x; stat -c %a /tmp/x'
    const annotations = { 'io.kubernetes.cri-o.umask': '0077' }
    const allowed = await see(world, { name: 'umask', script, handler: 'open', pod: { annotations } })
    assert.deepEqual(allowed.lines, ['0077', '600'])
    const filtered = await see(world, { name: 'no-umask', script, pod: { annotations } })
    assert.deepEqual(filtered.lines, ['0022', '644'])
    const malformed = see(world, {
      name: 'bad-umask',
      script,
      handler: 'open',
      pod: { annotations: { 'io.cricket.umask': '0888' } },
    })
    await assert.rejects(malformed, failsWith(status.INVALID_ARGUMENT, /umask: "0888"/))
    await world.assertNothingLeft()
  })

  it('bring devices that the node allows, and no others', async () => {
    const script = ': < /dev/mine && echo opened'
    const pod = (devices: string) => ({ annotations: { 'io.cricket.devices': devices } })
    const opened = await see(world, { name: 'device', script, handler: 'open', pod: pod('/dev/fuse:/dev/mine:r') })
    assert.deepEqual(opened.lines, ['opened'])
    const other = see(world, { name: 'other', script, handler: 'open', pod: pod('/dev/mem:/dev/mine:r') })
    await assert.rejects(other, failsWith(status.INVALID_ARGUMENT, /"\/dev\/mem".*container\.allowedDevices/))
    const closed = await see(world, { name: 'closed', script, pod: pod('/dev/mem:/dev/mine:r') })
    assert.doesNotMatch(closed.lines.join('\n'), /opened/)
    await world.assertNothingLeft()
  })

  it('reach the OCI runtime where the handler allows them, but never as unit properties', async () => {
    const annotations = { 'com.example.a': 'yes', 'org.example.b': 'no', 'org.systemd.property.ExecStart': "['/x']" }
    let passed: Record<string, string> = {}
    await see(world, {
      name: 'passed',
      script: 'true',
      handler: 'open',
      pod: { annotations },
      meanwhile: async (id) => {
        const text = await readFile(world.site.path('state', 'containers', id, 'config.json'), 'utf8')
        passed = JSON.parse(text).annotations
      },
    })
    assert.equal(passed['com.example.a'], 'yes')
    assert.deepEqual(
      Object.keys(passed).filter((name) => name.startsWith('org.')),
      [],
    )
    await world.assertNothingLeft()
  })
})

describe('a node that decides for its pods', () => {
  const dir = join(tmpdir(), `cricket-e2e-node-${process.pid}`)
  const blockio = join(dir, 'blockio.yaml')
  const world = useWorld({
    config: {
      sections: {
        container: {
          minGomaxprocs: 1,
          systemd: 'detect',
          hooksDirs: [join(dir, 'hooks'), join(dir, 'none')],
          rdtClasses: { gold: { l3CacheSchema: 'L3:0=ff' } },
          blockioConfig: blockio,
        },
        workloads: {
          management: {
            activationAnnotation: 'target.workload.openshift.io/management',
            annotationPrefix: 'resources.workload.openshift.io',
            allowedAnnotations: ['umask.crio.io'],
            resources: { cpushares: 77, cpuset: '0', cpuquota: 40_000 },
          },
        },
      },
    },
  })
  before(async () => {
    await mkdir(join(dir, 'hooks'), { recursive: true })
    await writeFile(blockio, 'Classes:\n  slow:\n    - Weight: 80\n')
  })
  after(() => rm(dir, { recursive: true, force: true }))

  it('sets GOMAXPROCS for containers without limit only', async () => {
    const script = 'echo $GOMAXPROCS.'
    const config = { ...resources({ cpuShares: 512n }) }
    const { lines } = await see(world, { name: 'procs', script, config })
    assert.deepEqual(lines, ['1.'])
    const limited = resources({ cpuShares: 512n, cpuQuota: 50_000n, cpuPeriod: 100_000n })
    assert.deepEqual((await see(world, { name: 'limited', script, config: limited })).lines, ['.'])
  })

  it('keeps a workload to its processors and shares, and a container of it to its own word', async () => {
    const annotations = {
      'target.workload.openshift.io/management': '{"effect":"PreferredDuringScheduling"}',
      'resources.workload.openshift.io/main': '{"cpushares": 33}',
      'umask.crio.io': '0027',
    }
    const script = 'grep Cpus_allowed_list /proc/self/status; umask'
    let shares = ''
    let limits: KernelLimits | undefined
    const { lines } = await see(world, {
      name: 'workload',
      script,
      pod: { annotations },
      config: resources({ cpuShares: 1024n }),
      meanwhile: async (id) => {
        const text = await readFile(world.site.path('state', 'containers', id, 'config.json'), 'utf8')
        shares = JSON.parse(text).linux.resources.cpu.shares
        // As the kubelet's CPU manager does.
        const linux = LinuxContainerResources.fromPartial({ cpuQuota: 90_000n, cpuPeriod: 100_000n })
        await world.cri.runtime.updateContainerResources({ containerId: id, linux })
        limits = await kernelLimits(world.site, id)
      },
    })
    assert.deepEqual(lines, ['Cpus_allowed_list:\t0', '0027'])
    assert.equal(shares, 33)
    assert.deepEqual([limits?.cpus, limits?.quota], ['0', '40000'])
    const bad = { ...annotations, 'resources.workload.openshift.io/main': '{"cpushares": "33"}' }
    await assert.rejects(
      see(world, { name: 'bad', script, pod: { annotations: bad } }),
      failsWith(status.INVALID_ARGUMENT, /resources\.workload\.openshift\.io\/main/),
    )
    await world.assertNothingLeft()
  })

  it('gives systemd its places, variable and stop signal', async () => {
    const script = 'echo $container; grep -cE " (/run|/tmp|/run/lock|/var/log/journal) tmpfs" /proc/mounts'
    // The name of the program counts.
    const init = join(dir, 'init')
    await writeFile(init, `#!/bin/sh\n${script}\n`)
    await chmod(init, 0o755)
    const mounts = [{ containerPath: '/sbin/init', hostPath: init }]
    const { lines } = await see(world, { name: 'systemd', script, command: ['/sbin/init'], config: { mounts } })
    assert.deepEqual(lines, ['cricket', '4'])
    await world.assertNothingLeft()
  })

  it('runs the hooks of its directories for the containers that they are for', async () => {
    const trace = join(dir, 'trace')
    const program = join(dir, 'hook')
    await writeFile(program, `#!/bin/sh\nprintf '%s %s\\n' "$1" "$WORD" >> ${trace}\n`)
    await chmod(program, 0o755)
    const hook = (when: object, stages: string[], word: string) =>
      JSON.stringify({ version: '1.0.0', hook: { path: program, args: ['hook', word], env: ['WORD=x'] }, when, stages })
    await writeFile(
      join(dir, 'hooks', '1.json'),
      hook({ annotations: { '^trace$': '^on$' } }, ['createRuntime', 'poststop'], 'one'),
    )
    await writeFile(join(dir, 'hooks', '2.json'), hook({ commands: ['/never$'] }, ['createRuntime'], 'two'))
    const mine = { annotations: { '^mine$': '^yes$', '^trace$': '^off$' }, commands: ['^sh$'], hasBindMounts: true }
    await writeFile(join(dir, 'hooks', '4.json'), hook(mine, ['createRuntime'], 'four'))
    await see(world, { name: 'hooked', script: 'true', pod: { annotations: { trace: 'on' } } })
    await see(world, { name: 'unhooked', script: 'true', pod: { annotations: { trace: 'off' } } })
    assert.equal(await readFile(trace, 'utf8'), 'one x\none x\n')
    const mounts = [{ containerPath: '/m', hostPath: dir }]
    const pod = { annotations: { trace: 'off' } }
    await see(world, { name: 'mine', script: 'true', pod, config: { annotations: { mine: 'yes' }, mounts } })
    await see(world, { name: 'bare', script: 'true', pod, config: { annotations: { mine: 'yes' } } })
    assert.equal(await readFile(trace, 'utf8'), 'one x\none x\nfour x\n')
    await writeFile(join(dir, 'hooks', '3.json'), '{')
    const refused = see(world, { name: 'broken', script: 'true' })
    await assert.rejects(refused, failsWith(status.FAILED_PRECONDITION, /hooks\/3\.json/))
    await rm(join(dir, 'hooks'), { recursive: true })
    await world.assertNothingLeft()
  })

  it('refuses classes that it does not have', async () => {
    const asked = (annotations: Record<string, string>) =>
      see(world, { name: 'class', script: 'true', pod: { annotations } })
    const pod = (kind: string, name: string) => ({ [`${kind}.resources.beta.kubernetes.io/pod`]: name })
    await assert.rejects(
      asked(pod('rdt', 'silver')),
      failsWith(status.INVALID_ARGUMENT, /"silver" is not one of "gold"/),
    )
    await assert.rejects(asked(pod('rdt', 'gold')), failsWith(status.FAILED_PRECONDITION, /resctrl/))
    await assert.rejects(
      asked(pod('blockio', 'fast')),
      failsWith(status.INVALID_ARGUMENT, /"fast" is not one of "slow"/),
    )
    await world.assertNothingLeft()
  })
})

describe('a container with processors of its own', () => {
  const world = useWorld({
    config: {
      sections: {
        runtimes: {
          handlers: {
            runc: {},
            first: {
              path: RUNC,
              execCpuAffinity: 'first',
              allowedAnnotations: ['cpu-quota.crio.io', 'cpu-load-balancing.crio.io', 'cpu-freq-governor.crio.io'],
            },
            last: { path: RUNC, execCpuAffinity: 'last' },
          },
        },
      },
    },
  })
  const ALLOWED = ['sh', '-c', 'sed -n "s/Cpus_allowed_list:\\t//p" /proc/self/status']

  /** What a further command sees of the processors of a container that has these. */
  const seenByExec = async (handler: string, cpusetCpus: string): Promise<string> => {
    let seen = ''
    const config = resources({ cpusetCpus })
    await see(world, {
      name: `exec-${handler || 'none'}`,
      script: 'for i in $(seq 100); do test -e /tmp/end && exit; sleep 0.1; done',
      handler,
      config,
      running: async (containerId) => {
        const { stdout, stderr } = await world.cri.runtime.execSync({ containerId, cmd: ALLOWED, timeout: 20n })
        seen = `${stdout}${stderr}`.trim()
        await world.cri.runtime.execSync({ containerId, cmd: ['touch', '/tmp/end'], timeout: 20n })
      },
    })
    return seen
  }

  it('runs further commands on the first or last of them, as its handler says', async (t) => {
    if (availableParallelism() < 2) return t.skip('host lacks a second processor')
    assert.equal(await seenByExec('first', '0-1'), '0')
    assert.equal(await seenByExec('last', '0-1'), '1')
    assert.equal(await seenByExec('', '0-1'), '0-1')
    assert.match(await seenByExec('first', ''), /-/, 'a container without any of its own runs them anywhere')
    await world.assertNothingLeft()
  })

  const own = { cpuShares: 1024n, cpusetCpus: '1', cpuQuota: 100_000n, cpuPeriod: 100_000n }
  const quotaOf = async (containerId: string) => {
    const path = join('/sys/fs/cgroup/cpu', world.site.cgroupParent, containerId, 'cpu.cfs_quota_us')
    return (await readFile(path, 'utf8')).trim()
  }

  it('has no CPU limit where an annotation lifts it, also after its limits are updated', async (t) => {
    if (availableParallelism() < 2) return t.skip('host lacks a second processor')
    if (!existsSync('/sys/fs/cgroup/cpu')) return t.skip('host lacks cgroup version 1')
    const annotations = { 'cpu-quota.crio.io': 'disable' }
    const seen: string[] = []
    const look = async (containerId: string) => {
      seen.push(await quotaOf(containerId))
      await world.cri.runtime.updateContainerResources({
        containerId,
        linux: LinuxContainerResources.fromPartial({ cpuQuota: 90_000n }),
      })
      seen.push(await quotaOf(containerId))
    }
    const script = 'true'
    await see(world, {
      name: 'lifted',
      script,
      handler: 'first',
      pod: { annotations },
      config: resources(own),
      meanwhile: look,
    })
    await see(world, { name: 'limited', script, pod: { annotations }, config: resources(own), meanwhile: look })
    // As many shares as processors: without that they are not its own.
    const shared = resources({ ...own, cpuShares: 512n })
    await see(world, {
      name: 'shared',
      script,
      handler: 'first',
      pod: { annotations },
      config: shared,
      meanwhile: look,
    })
    assert.deepEqual(seen, ['-1', '-1', '100000', '90000', '100000', '90000'])
    await world.assertNothingLeft()
  })

  it('does not start when the host cannot do what it asks of its processors', async () => {
    const annotations = { 'cpu-freq-governor.crio.io': 'no_such_governor' }
    const config = resources(own)
    const asked = see(world, { name: 'governor', script: 'true', handler: 'first', pod: { annotations }, config })
    await assert.rejects(asked, failsWith(status.FAILED_PRECONDITION, /cpufreq|no_such_governor/))
    const malformed = { 'cpu-load-balancing.crio.io/main': 'perhaps' }
    const refused = see(world, {
      name: 'bad',
      script: 'true',
      handler: 'first',
      pod: { annotations: malformed },
      config,
    })
    await assert.rejects(refused, failsWith(status.INVALID_ARGUMENT, /cpu-load-balancing: "perhaps"/))
    await world.assertNothingLeft()
  })
})

describe('refused system calls', () => {
  const world = useWorld({
    config: {
      sections: {
        runtimes: {
          handlers: { runc: {}, told: { path: RUNC, allowedAnnotations: ['seccomp-notifier-action.crio.io'] } },
        },
      },
    },
  })
  const confined: DeepPartial<ContainerConfig> = {
    linux: { securityContext: { namespaceOptions: { pid: 1 }, seccomp: { profileType: 0 } } },
  }
  // Refused for want of the capability, and not by the kernel before it asks anybody.
  const script = 'unshare -U true 2>&1; unshare -U true 2>&1; echo went on; test -z "$WAIT" || sleep 100'
  const pod = (action: string) => ({ annotations: { 'io.kubernetes.cri-o.seccompNotifierAction': action } })

  /** Sockets of the daemon that wait for a filter's listener. */
  const waiting = async (): Promise<string[]> => {
    const descriptors = await readdir(`/proc/${world.runtime.pid}/fd`)
    const links = descriptors.map((fd) => readlink(`/proc/${world.runtime.pid}/fd/${fd}`).catch(() => ''))
    const own = new Set((await Promise.all(links)).flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []))
    const sockets = (await readFile('/proc/net/unix', 'utf8')).split('\n').map((line) => line.split(/ +/))
    return sockets.flatMap(([, , , , , , inode = '', path = '']) =>
      own.has(inode) && /\/[0-9a-f]{20}$/.test(path) ? [path] : [],
    )
  }

  it('are told where that is allowed, and refused all the same', async () => {
    const { lines, id } = await see(world, { name: 'told', script, handler: 'told', config: confined, pod: pod('log') })
    assert.match(lines.join('\n'), /Operation not permitted/)
    assert.equal(lines.at(-1), 'went on')
    const log = (await world.runtime.logTail()).split('\n').filter((line) => line.includes('refused system call'))
    assert.equal(log.length, 1)
    assert.match(
      log[0] ?? '',
      new RegExp(`call=(unshare|clone).*container=${id}|container=${id}.*call=(unshare|clone)`),
    )
    const silent = await see(world, { name: 'silent', script, config: confined, pod: pod('log') })
    assert.equal(silent.lines.at(-1), 'went on')
    assert.ok(
      !(await world.runtime.logTail())
        .split('\n')
        .some((line) => line.includes(`container=${silent.id}`) && line.includes('refused system call')),
    )
    await world.assertNothingLeft()
  })

  it('stop the container that wants to be stopped for them, with the reason in its status', async () => {
    const config = { ...confined, envs: [{ key: 'WAIT', value: Buffer.from('1') }] }
    let status: { reason: string; message: string; exitCode: number } | undefined
    await see(world, {
      name: 'stopped',
      script,
      handler: 'told',
      config,
      pod: pod('stop'),
      running: async (id) => {
        status = await untilExited(world.cri, id, 60_000)
      },
    })
    assert.equal(status?.reason, 'SeccompKilled')
    assert.match(status?.message ?? '', /^Used refused system calls: (unshare|clone) \(\d+x\)/)
    assert.equal(status?.exitCode, 137)
    await world.assertNothingLeft()
    assert.deepEqual(await waiting(), [])
  })

  it('are waited for until the container has ended, or could not be made', async () => {
    const asked = { script: 'true', handler: 'told', config: confined, pod: pod('log') }
    let during: string[] = []
    const meanwhile = async () => {
      during = await waiting()
    }
    await see(world, { ...asked, name: 'waited', meanwhile })
    assert.equal(during.length, 1)
    await assert.rejects(see(world, { ...asked, name: 'missing', command: ['/nowhere'] }), CriError)
    assert.deepEqual(await waiting(), [])
  })

  it('in a word that nobody knows refuse the container', async () => {
    const asked = see(world, { name: 'bad', script, handler: 'told', config: confined, pod: pod('explode') })
    await assert.rejects(asked, failsWith(status.INVALID_ARGUMENT, /seccomp-notifier: "explode"/))
  })
})
