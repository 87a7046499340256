/** How far a container is confined, and how far not when it asks for less: seen from inside, and from the node. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { type ContainerConfig, type DeepPartial, MountPropagation, NamespaceMode } from '#proto/generated/api.ts'
import { failsWith } from './cri-client.ts'
import { crunProgram, crunSkip } from './crun.ts'
import { useWorld } from './harness.ts'
import { type Asked, see } from './see.ts'

const { PROPAGATION_BIDIRECTIONAL, PROPAGATION_HOST_TO_CONTAINER } = MountPropagation
const profile = join(tmpdir(), `cricket-e2e-confinement-${process.pid}.json`)
const crun = crunSkip === false ? crunProgram() : undefined

describe('a container', () => {
  const world = useWorld({
    config: {
      sections: {
        runtimes: {
          handlers: {
            runc: {},
            bare: { path: '/usr/sbin/runc', privilegedWithoutHostDevices: true },
            ...(crun && { crun: { path: crun.path } }),
          },
        },
        container: { privilegedSeccompProfile: profile },
      },
    },
  })
  before(() => {
    const rules = [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 }]
    writeFileSync(profile, JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: rules }))
  })
  after(() => {
    execFileSync('rm', ['-f', profile])
    crun?.remove()
  })

  afterEach(() => world.assertNothingLeft())

  const ask = async (context: object, script: string, rest: Partial<Asked> = {}): Promise<string> => {
    const own = { namespaceOptions: { pid: NamespaceMode.CONTAINER }, ...context }
    const config: DeepPartial<ContainerConfig> = { linux: { securityContext: own }, ...rest.config }
    const { lines } = await see(world, { name: 'confined', script, ...rest, config })
    return lines.join('\n')
  }

  const privilegedPod = () => ({
    linux: {
      cgroupParent: world.site.cgroupParent,
      securityContext: { privileged: true, namespaceOptions: { pid: NamespaceMode.CONTAINER } },
    },
  })
  const askPrivileged = (script: string, rest: Partial<Asked> = {}): Promise<string> =>
    ask({ privileged: true }, script, { pod: privilegedPod(), ...rest })

  it('has the masked and read-only paths that the kubelet asks for, and ours with them', async () => {
    const script = [
      'ls /sys/firmware | wc -l; wc -c < /proc/keys; wc -c < /proc/timer_list',
      '(echo 1 > /proc/sys/kernel/panic) 2>&1; (: > /proc/irq/default_smp_affinity) 2>&1; (: > /sys/kernel/x) 2>&1',
    ].join('; ')
    // /proc/timer_list is not asked for.
    const maskedPaths = ['/proc/keys', '/sys/firmware', '/proc/acpi']
    const said = await ask({ maskedPaths, readonlyPaths: ['/proc/sys', '/proc/bus'] }, script)
    assert.match(said, /^0\n0\n0\n/)
    assert.match(said, /\/proc\/sys\/kernel\/panic: Read-only file system/)
    assert.match(said, /default_smp_affinity: Read-only file system/)
    assert.match(said, /\/sys\/kernel\/x: Read-only file system/)
  })

  it('has none of them when the lists are empty (procMount: Unmasked), if its user namespace is its own', async () => {
    const script = 'grep -c " /proc/[a-z]" /proc/mounts; true'
    const none = { maskedPaths: [], readonlyPaths: [] }
    assert.notEqual(await ask(none, script), '0')
    const { runtimeHandlers } = await world.cri.runtime.status({})
    if (!runtimeHandlers.find(({ name }) => name === 'runc')?.features?.userNamespaces) return
    const ids = [{ hostId: 300_000, containerId: 0, length: 65_536 }]
    const usernsOptions = { mode: NamespaceMode.POD, uids: ids, gids: ids }
    const namespaceOptions = { pid: NamespaceMode.CONTAINER, usernsOptions }
    const pod = { linux: { cgroupParent: world.site.cgroupParent, securityContext: { namespaceOptions } } }
    assert.equal(await ask({ ...none, namespaceOptions }, script, { pod }), '0')
  })

  it('that is privileged has every capability, the devices and the settings of the node', async () => {
    const script = 'grep CapEff /proc/self/status; ls /dev; cat /proc/self/mounts; grep Seccomp: /proc/self/status'
    const said = await askPrivileged(script)
    const bounding = /CapBnd:\s+(\w+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
    assert.match(said, new RegExp(`CapEff:\\s+${bounding}`))
    if (existsSync('/dev/kmsg')) assert.match(said, /^kmsg$/m)
    assert.match(said, /^sysfs \/sys sysfs rw/m)
    assert.doesNotMatch(said, / \/proc\/kcore /)
  })

  it('that is privileged by a handler without host devices has the standard ones only', async () => {
    const said = await askPrivileged('ls /dev', { handler: 'bare' })
    assert.doesNotMatch(said, /^kmsg$/m)
    assert.match(said, /^null$/m)
  })

  it('that is privileged is refused in a pod that is not', async () => {
    await assert.rejects(ask({ privileged: true }, 'true'), failsWith(status.INVALID_ARGUMENT, /privileged/))
  })

  const SECCOMP = 'grep Seccomp: /proc/self/status; mkdir /tmp/made 2>&1 && echo made'
  const exec = (said: string[]) => async (containerId: string) => {
    const cmd = ['sh', '-c', SECCOMP]
    said.push((await world.cri.runtime.execSync({ containerId, cmd, timeout: 20n })).stdout.toString())
  }

  it('is filtered by the seccomp profile of the node that it names, commands in it as well', async () => {
    const inside: string[] = []
    const seccomp = { profileType: 2, localhostRef: profile }
    const said = await ask({ seccomp }, `${SECCOMP}; sleep 2`, { running: exec(inside) })
    for (const text of [said, inside.join()]) {
      assert.match(text, /Seccomp:\s2/)
      assert.match(text, /not permitted/)
      assert.doesNotMatch(text, /^made$/m)
    }
  })

  it('is filtered by the default seccomp profile, or not at all, as it says', async () => {
    assert.match(await ask({ seccomp: { profileType: 0 } }, `${SECCOMP}; unshare -U true 2>&1`), /:\s2\nmade\nunshare/)
    for (const context of [{ seccomp: { profileType: 1 } }, {}]) {
      assert.match(await ask(context, `${SECCOMP}; unshare -U echo unshared`), /:\s0\nmade\nunshared/)
    }
  })

  it('that is privileged is filtered by the profile that the configuration has for those', async () => {
    assert.match(await askPrivileged(SECCOMP), /Seccomp:\s2[\s\S]*not permitted/)
  })

  it('asks for an SELinux label in vain where there is no SELinux, and the log says so', async (t) => {
    if (existsSync('/sys/fs/selinux/enforce')) return t.skip('host has SELinux')
    assert.equal(await ask({ selinuxOptions: { type: 'container_t', level: 's0:c1,c2' } }, 'echo runs'), 'runs')
    assert.match(await world.runtime.logTail(), /selinux_options are ignored/)
  })

  it('gains privileges or does not, and writes its root file system or does not, as it says', async () => {
    const script = 'grep NoNewPrivs /proc/self/status; (echo x > /x) 2>&1; echo y > /dev/shm/y && echo shm'
    assert.match(await ask({ noNewPrivs: true, readonlyRootfs: true }, script), /:\s1\n.*Read-only file system\nshm/)
    assert.match(await ask({}, script), /:\s0\nshm/)
  })

  /** A mount of its own, so that how it spreads is known. */
  const withSource = async (kind: 'shared' | 'private', use: (source: string) => Promise<void>): Promise<void> => {
    const source = world.site.path(`source-${kind}`)
    mkdirSync(source, { recursive: true })
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', source])
    try {
      execFileSync('mount', [`--make-${kind}`, source])
      mkdirSync(join(source, 'below'))
      await use(source)
    } finally {
      execFileSync('umount', ['-R', source])
    }
  }

  it('sees what is mounted later below its volume when it asks for that', async () => {
    await withSource('shared', async (source) => {
      const mountLater = async () => {
        execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', join(source, 'below')])
        writeFileSync(join(source, 'below/file'), '')
      }
      for (const [propagation, wanted] of [
        [PROPAGATION_HOST_TO_CONTAINER, 'file'],
        [MountPropagation.PROPAGATION_PRIVATE, ''],
      ] as const) {
        const around = { containerPath: '/around', hostPath: world.site.logDir }
        for (const [place, others] of [
          ['/v', []],
          ['/around/v', [around]],
        ] as const) {
          const mounts = [...others, { containerPath: place, hostPath: source, propagation }]
          const said = await ask({}, `sleep 2; ls ${place}/below`, { config: { mounts }, running: mountLater })
          assert.equal(said, wanted, place)
          execFileSync('umount', [join(source, 'below')])
        }
      }
    })
  })

  it('shows its mounts to the node only when it is privileged and asks for that', async () => {
    await withSource('shared', async (source) => {
      const mounts = [{ containerPath: '/v', hostPath: source, propagation: PROPAGATION_BIDIRECTIONAL }]
      const config = {
        mounts,
        linux: { securityContext: { privileged: true, namespaceOptions: { pid: NamespaceMode.CONTAINER } } },
      }
      await askPrivileged('mount -t tmpfs tmpfs /v/below && echo > /v/below/inside', { config })
      assert.ok(existsSync(join(source, 'below/inside')))
      await assert.rejects(
        ask({}, 'true', { config: { mounts } }),
        failsWith(status.INVALID_ARGUMENT, /only a privileged container/),
      )
    })
    await withSource('private', async (source) => {
      const mounts = [{ containerPath: '/v', hostPath: source, propagation: PROPAGATION_HOST_TO_CONTAINER }]
      const refusal = failsWith(status.FAILED_PRECONDITION, /not on a shared or slave mount/)
      await assert.rejects(ask({}, 'true', { config: { mounts } }), refusal)
    })
  })

  it('cannot write below a recursively read-only volume, or is refused where there is no such thing', async () => {
    const { runtimeHandlers } = await world.cri.runtime.status({})
    await withSource('private', async (source) => {
      execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', join(source, 'below')])
      const mounts = [{ containerPath: '/v', hostPath: source, readonly: true, recursiveReadOnly: true }]
      const script = '(: > /v/x) 2>&1; (: > /v/below/x) 2>&1; true'
      for (const { name, features } of runtimeHandlers) {
        const asked = ask({}, script, { config: { mounts }, handler: name })
        if (features?.recursiveReadOnlyMounts) assert.match(await asked, /v\/x: Read-only[\s\S]*below\/x: Read-only/)
        else await assert.rejects(asked, failsWith(status.UNKNOWN, /^RROUnsupported: /))
      }
    })
  })
})
