/** Pods with a user namespace of their own: who is who inside and outside, and whose the files are. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { chown, mkdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, it, type TestContext } from 'node:test'
import { status } from '@grpc/grpc-js'
import {
  type ContainerConfig,
  type DeepPartial,
  type IDMapping,
  type Mount,
  MountPropagation,
  NamespaceMode,
  type PodSandboxConfig,
} from '#proto/generated/api.ts'
import { failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { imageSpec } from './image-spec.ts'
import { containerConfig, containerStatus, createContainer, podConfig, removePod, startPod } from './pods.ts'

const HOST = 300_000
const SIZE = 65_536

describe('a pod with a user namespace', () => {
  const world = useWorld()
  let isOffered = false

  before(async () => {
    const { runtimeHandlers } = await world.cri.runtime.status({})
    isOffered = runtimeHandlers.every(({ features }) => features?.userNamespaces)
  })

  const needed = (t: TestContext): boolean => {
    if (!isOffered) t.skip('host lacks user namespaces or id-mapped mounts')
    return isOffered
  }

  const mapping = (length = SIZE): DeepPartial<IDMapping>[] => [{ hostId: HOST, containerId: 0, length }]

  const sandboxOf = async (name: string, options: object = {}): Promise<PodSandboxConfig> => {
    const usernsOptions = { mode: NamespaceMode.POD, uids: mapping(), gids: mapping() }
    const namespaceOptions = {
      network: NamespaceMode.POD,
      pid: NamespaceMode.CONTAINER,
      ipc: NamespaceMode.POD,
      usernsOptions,
      ...options,
    }
    const linux = { cgroupParent: world.site.cgroupParent, securityContext: { namespaceOptions } }
    return podConfig(world.site, name, { linux })
  }

  const start = async (sandbox: PodSandboxConfig, config: DeepPartial<ContainerConfig> = {}) => {
    const namespaceOptions = sandbox.linux?.securityContext?.namespaceOptions
    const linux = { securityContext: { namespaceOptions } }
    return startPod(world.cri, sandbox, containerConfig('main', world.image, ['sleep', '1000'], { linux, ...config }))
  }

  const sh = async (containerId: string, script: string): Promise<string> => {
    const { stdout, stderr } = await world.cri.runtime.execSync({
      containerId,
      cmd: ['sh', '-c', script],
      timeout: 20n,
    })
    return Buffer.concat([stdout, stderr]).toString().trim()
  }

  const pidOf = async (containerId: string): Promise<number> => {
    const { info } = await world.cri.runtime.containerStatus({ containerId, verbose: true })
    const { pid }: { pid: number } = JSON.parse(info.info ?? '{}')
    return pid
  }

  it('has a root that is nobody on the host, over files that were not changed', async (t) => {
    if (!needed(t)) return
    const { containerId, sandboxId } = await start(await sandboxOf('root'))
    assert.match(
      await sh(containerId, 'id -u; cat /proc/self/uid_map'),
      new RegExp(`^0\\n\\s+0\\s+${HOST}\\s+${SIZE}$`),
    )
    const pid = await pidOf(containerId)
    assert.equal((await stat(`/proc/${pid}`)).uid, HOST)
    const owners = await sh(
      containerId,
      'stat -c %u:%g / /bin/busybox /home/app /etc/hosts /etc/hostname /dev/shm /etc',
    )
    assert.equal(owners, '0:0\n0:0\n1000:1000\n0:0\n0:0\n0:0\n0:0')
    // Writes land in the container's own layer, owned by whom the host knows; copies keep their owner.
    assert.equal(
      await sh(
        containerId,
        'echo x > /new && chown 5:6 /new && touch /home/app && echo y >> /greeting && stat -c %u:%g /new /greeting',
      ),
      '5:6\n0:0',
    )
    const upper = world.site.path('root', 'storage', 'rootfs', containerId, 'upper')
    assert.deepEqual([(await stat(join(upper, 'new'))).uid, (await stat(join(upper, 'new'))).gid], [HOST + 5, HOST + 6])
    assert.equal((await stat(join(upper, 'greeting'))).uid, HOST)
    // What only the real root may do is not done: its own are.
    assert.match(await sh(containerId, 'echo 1 > /proc/sys/kernel/panic; cat /etc/shadow-of-host'), /Read-only|denied/)
    assert.equal(await sh(containerId, 'echo z > /etc/hosts && cat /etc/hosts'), 'z')
    await removePod(world.cri, sandboxId)
    await world.assertNothingLeft()
  })

  it('sees a device where it was asked for, not what the host has there', async (t) => {
    if (!needed(t)) return
    const devices = [
      { hostPath: '/dev/zero', containerPath: '/dev/mine', permissions: 'rw' },
      { hostPath: '/dev/zero', containerPath: '/dev/kmsg', permissions: 'rw' },
    ]
    const { containerId, sandboxId } = await start(await sandboxOf('device'), { devices })
    assert.equal(await sh(containerId, 'stat -c %t:%T /dev/mine /dev/kmsg'), '1:5\n1:5')
    assert.equal(await sh(containerId, 'head -c 2 /dev/mine | od -An -tx1'), '00 00')
    await removePod(world.cri, sandboxId)
    await world.assertNothingLeft()
  })

  it('has namespaces that belong to it, the same for all its containers, and through a restart', async (t) => {
    if (!needed(t)) return
    const sandbox = await sandboxOf('same', { pid: NamespaceMode.POD })
    const first = await start(sandbox)
    await world.runtime.kill()
    await world.runtime.start()
    const namespaceOptions = sandbox.linux?.securityContext?.namespaceOptions
    const config = containerConfig('second', world.image, ['sleep', '1000'], {
      linux: { securityContext: { namespaceOptions } },
    })
    const second = await createContainer(world.cri, first.sandboxId, sandbox, config)
    await world.cri.runtime.startContainer({ containerId: second })
    const namespace = async (containerId: string, kind: string) =>
      readlink(`/proc/${await pidOf(containerId)}/ns/${kind}`)
    for (const kind of ['user', 'net', 'ipc', 'uts', 'pid']) {
      assert.equal(await namespace(first.containerId, kind), await namespace(second, kind), kind)
      assert.notEqual(await namespace(second, kind), await readlink(`/proc/self/ns/${kind}`), kind)
    }
    assert.match(await sh(second, 'hostname; ip -o addr show eth0'), /^same\n.* inet 10\./)
    const cgroup = readFileSync(`/proc/${await pidOf(second)}/cgroup`, 'utf8')
    assert.ok(cgroup.includes(`${world.site.cgroupParent}/${second}`), cgroup)
    await removePod(world.cri, first.sandboxId)
    await world.assertNothingLeft()
  })

  it('sees mapped volumes as its own, and others as nobody’s', async (t) => {
    if (!needed(t)) return
    const source = world.site.path('mapped')
    await mkdir(source)
    await chown(source, 0, 0)
    await writeFile(join(source, 'file'), 'text')
    await chown(join(source, 'file'), 1000, 1000)
    await symlink(source, world.site.path('link'))
    const ids = { uidMappings: mapping(), gidMappings: mapping() }
    const mounts: DeepPartial<Mount>[] = [
      { containerPath: '/mapped', hostPath: world.site.path('link'), ...ids },
      { containerPath: '/file', hostPath: join(source, 'file'), readonly: true, ...ids },
      { containerPath: '/plain', hostPath: source },
      { containerPath: '/image', image: imageSpec(world.image), readonly: true, ...ids },
    ]
    const { containerId, sandboxId } = await start(await sandboxOf('volumes'), { mounts })
    const owners = await sh(containerId, 'stat -c %u:%g /mapped /mapped/file /file /plain /image /image/home/app')
    assert.equal(owners, '0:0\n1000:1000\n1000:1000\n65534:65534\n0:0\n1000:1000')
    assert.match(
      await sh(containerId, 'echo x > /mapped/new; chown 7:8 /mapped/new; echo x > /plain/y; echo x > /file'),
      /plain\/y: Permission denied.*\n.*Read-only/,
    )
    const made = await stat(join(source, 'new'))
    assert.deepEqual([made.uid, made.gid], [7, 8])
    await removePod(world.cri, sandboxId)
    await world.assertNothingLeft()
    assert.equal(await readFile(join(source, 'file'), 'utf8'), 'text')
  })

  it('is refused where its ids cannot be mapped', async (t) => {
    if (!needed(t)) return
    const sandbox = await sandboxOf('unmappable')
    const ids = { uidMappings: mapping(), gidMappings: mapping() }
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    const attempt = (mount: DeepPartial<Mount>) => {
      const linux = { securityContext: { namespaceOptions: sandbox.linux?.securityContext?.namespaceOptions } }
      return createContainer(
        world.cri,
        podSandboxId,
        sandbox,
        containerConfig('main', world.image, ['true'], { linux, mounts: [mount] }),
      )
    }
    const proc = { containerPath: '/x', hostPath: '/proc/sys', ...ids }
    await assert.rejects(attempt(proc), failsWith(status.FAILED_PRECONDITION, /cannot map ids/))
    const half = { containerPath: '/x', hostPath: world.site.dir, uidMappings: mapping() }
    await assert.rejects(attempt(half), failsWith(status.INVALID_ARGUMENT, /gidMappings/))
    const unlisted = containerConfig('main', world.image, ['true'], {
      linux: {
        securityContext: {
          runAsUser: { value: 70_000n },
          namespaceOptions: sandbox.linux?.securityContext?.namespaceOptions ?? {},
        },
      },
    })
    await assert.rejects(
      createContainer(world.cri, podSandboxId, sandbox, unlisted),
      failsWith(status.INVALID_ARGUMENT, /not mapped/),
    )
    await removePod(world.cri, podSandboxId)
    await world.assertNothingLeft()
  })

  it('and maps that make no sense is refused (A19)', async () => {
    const one = { hostId: HOST, containerId: 0, length: SIZE }
    const bad: Record<string, DeepPartial<IDMapping>[]> = {
      none: [],
      two: [one, { hostId: HOST + SIZE, containerId: SIZE, length: 1 }],
      'no container root': [{ ...one, containerId: 1 }],
      'no length': [{ ...one, length: 0 }],
      'the root of the host': [{ ...one, hostId: 0 }],
      overflow: [{ hostId: 4_294_967_295, containerId: 0, length: 2 }],
    }
    for (const [what, uids] of Object.entries(bad)) {
      const config = await sandboxOf('bad', { usernsOptions: { mode: NamespaceMode.POD, uids, gids: [one] } })
      await assert.rejects(
        world.cri.runtime.runPodSandbox({ config }),
        failsWith(status.INVALID_ARGUMENT, /userns_options/),
        what,
      )
    }
    for (const mode of [NamespaceMode.CONTAINER, NamespaceMode.TARGET]) {
      const config = await sandboxOf('bad', { usernsOptions: { mode, uids: [one], gids: [one] } })
      await assert.rejects(
        world.cri.runtime.runPodSandbox({ config }),
        failsWith(status.INVALID_ARGUMENT, /userns_options/),
      )
    }
    for (const host of [{ pid: NamespaceMode.NODE }, { ipc: NamespaceMode.NODE }]) {
      const config = await sandboxOf('bad', host)
      await assert.rejects(
        world.cri.runtime.runPodSandbox({ config }),
        failsWith(status.INVALID_ARGUMENT, /userns_options/),
      )
    }
    await world.assertNothingLeft()
  })

  it('on the network of the node works as well', async (t) => {
    if (!needed(t)) return
    const { containerId, sandboxId } = await start(await sandboxOf('node-network', { network: NamespaceMode.NODE }))
    assert.match(
      await sh(containerId, 'id -u; ls /sys/class/net; hostname newname'),
      /^0\n(.*\n)*lo\n(.*\n)*hostname: .*not permitted/,
    )
    await removePod(world.cri, sandboxId)
    await world.assertNothingLeft()
  })
})

describe('a source that is a link', () => {
  const world = useWorld()

  it('is followed once, and what spreads from it still does', async () => {
    const real = world.site.path('real')
    await mkdir(real)
    await writeFile(join(real, 'file'), 'text')
    await symlink(real, world.site.path('turned'))
    const mounts = [
      { containerPath: '/link', hostPath: world.site.path('turned') },
      {
        containerPath: '/one',
        hostPath: join(world.site.path('turned'), 'file'),
        propagation: MountPropagation.PROPAGATION_PRIVATE,
      },
    ]
    const config = containerConfig('main', world.image, ['sleep', '1000'], { mounts })
    const { containerId, sandboxId } = await startPod(world.cri, await podConfig(world.site, 'link'), config)
    const { stdout } = await world.cri.runtime.execSync({
      containerId,
      cmd: ['sh', '-c', 'cat /link/file /one; echo new > /link/new'],
    })
    assert.equal(Buffer.from(stdout).toString(), 'texttext')
    assert.equal(await readFile(join(real, 'new'), 'utf8'), 'new\n')
    assert.equal((await containerStatus(world.cri, containerId)).mounts[0]?.hostPath, world.site.path('turned'))
    await removePod(world.cri, sandboxId)
    await world.assertNothingLeft()
    assert.equal(await readFile(join(real, 'file'), 'utf8'), 'text')
  })

  it('to what holds the daemon itself keeps nothing of other pods alive', async () => {
    const other = await startPod(
      world.cri,
      await podConfig(world.site, 'other'),
      containerConfig('main', world.image, ['sleep', '1000']),
    )
    // Not the whole node: other daemons may be under test on it.
    await symlink(world.site.dir, world.site.path('everything'))
    const mounts = [{ containerPath: '/host', hostPath: world.site.path('everything'), readonly: true }]
    const config = containerConfig('main', world.image, ['sleep', '1000'], { mounts })
    const { containerId, sandboxId } = await startPod(world.cri, await podConfig(world.site, 'viewer'), config)
    const cmd = ['ls', '/host']
    assert.match(Buffer.from((await world.cri.runtime.execSync({ containerId, cmd })).stdout).toString(), /^state$/m)
    // Copies of the other pod's mounts would hold on to its root file system and its network.
    await removePod(world.cri, other.sandboxId)
    const left = (await readFile('/proc/self/mountinfo', 'utf8'))
      .split('\n')
      .filter((line) => line.includes(other.sandboxId))
    assert.deepEqual(left, [])
    await removePod(world.cri, sandboxId)
    await world.assertNothingLeft()
  })
})
