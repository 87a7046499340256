/** What containers get besides what the request says: from the configuration, from CDI, from the image; seen from inside. */

import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { stringify } from 'yaml'
import type { ContainerConfig, DeepPartial } from '#proto/generated/api.ts'
import { failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { imageSpec } from './image-spec.ts'
import { busyboxImage, pushImage } from './oci-image.ts'
import { see } from './see.ts'

const security = (rest: object): DeepPartial<ContainerConfig> => ({
  linux: { securityContext: { namespaceOptions: { pid: 1 }, ...rest } },
})

describe('a container of a configured node', () => {
  const world = useWorld({
    config: {
      sections: {
        container: {
          pidsLimit: 77,
          rlimits: ['nofile=1000:2000', 'core=0'],
          env: ['CONFIGURED=yes', 'FROM_IMAGE=no'],
          timezone: 'Etc/GMT-7',
          mounts: ['/etc/hostname:/configured:ro', '/no/such/file:/absent', '/etc/hostname:/etc/mine'],
          devices: ['/dev/fuse:/dev/configured:r'],
          deviceOwnershipFromSecurityContext: true,
          rejectMissingSources: ['/no/such/source'],
        },
      },
    },
  })

  it('has its limits, environment, mounts, time zone and devices', async () => {
    const script = [
      'ulimit -Sn; ulimit -Hn; ulimit -c',
      'echo $CONFIGURED $FROM_IMAGE',
      'grep -c . /configured; touch /configured; ls /absent',
      'cat /etc/mine',
      'head -c 5 /etc/localtime',
      'echo; : < /dev/configured && echo opened; stat -c %u:%g /dev/configured',
      '(: > /dev/configured) 2>&1',
    ].join('; ')
    const mounts = [{ containerPath: '/etc/mine', hostPath: '/proc/version', readonly: true }]
    const user = security({ runAsUser: { value: 1000n }, runAsGroup: { value: 1000n } })
    const limits = async (id: string) => {
      const path = `/sys/fs/cgroup/pids${world.site.cgroupParent}/${id}/pids.max`
      if (await stat(path).catch(() => undefined)) {
        assert.equal((await readFile(path, 'utf8')).trim(), '77')
      }
    }
    const { lines } = await see(world, { name: 'configured', script, config: { mounts, ...user }, meanwhile: limits })
    const all = lines.join('\n')
    assert.match(all, /^1000\n2000\n0\nyes yes\n1\n/)
    assert.match(all, /touch: \/configured: (Read-only file system|Permission denied)/)
    assert.match(all, /\/absent: No such file/)
    assert.match(all, /^Linux version/m)
    assert.match(all, /^TZif/m)
    assert.match(all, /^opened$/m)
    assert.match(all, /^1000:1000$/m)
    assert.match(all, /\/dev\/configured: Operation not permitted/)
    await world.assertNothingLeft()
  })

  it('is refused when a source that must exist is missing', async () => {
    const mounts = [{ containerPath: '/x', hostPath: '/no/such/source' }]
    const asked = see(world, { name: 'missing', script: 'true', config: { mounts } })
    await assert.rejects(asked, failsWith(status.FAILED_PRECONDITION, /\/no\/such\/source/))
    await assert.rejects(stat('/no/such/source'))
  })

  it('finds its user in /etc/passwd and /etc/group, whoever that is', async () => {
    const config = {
      ...security({ runAsUser: { value: 4321n }, runAsGroup: { value: 8765n } }),
      envs: [env('HOME', '/tmp')],
    }
    const { lines } = await see(world, { name: 'unknown', script: 'id; tail -n 1 /etc/passwd; whoami; echo ~', config })
    assert.deepEqual(lines, [
      'uid=4321(4321) gid=8765(8765) groups=8765(8765)',
      '4321:x:4321:8765:container user:/tmp:/sbin/nologin',
      '4321',
      '/tmp',
    ])
    const known = await see(world, {
      name: 'known',
      script: 'tail -n 1 /etc/passwd',
      config: security({ runAsUser: { value: 1000n } }),
    })
    assert.deepEqual(known.lines, ['app:x:1000:1000:app:/home/app:/bin/sh'])
  })
})

const env = (key: string, value: string) => ({ key, value: Buffer.from(value) })

describe('volumes that an image declares', () => {
  const volumes = { '/data': {}, '/home/app': {}, '/mine': {} }
  for (const mode of ['mkdir', 'bind', 'ignore'] as const) {
    describe(`with imageVolumes: ${mode}`, () => {
      const world = useWorld({ config: { sections: { container: { imageVolumes: mode } } } })
      let image = ''
      before(async () => {
        await pushImage(world.registry.url, 'volumes', '1', await busyboxImage({ Volumes: volumes }))
        image = `${world.registry.host}/volumes:1`
        await world.cri.images.pullImage({ image: imageSpec(image) })
      })

      it('are directories', async () => {
        const own = () => readdir(world.site.path('root', 'volumes'))
        const { lines } = await see(world, {
          name: 'volumes',
          image,
          script:
            'cat /proc/mounts | cut -d " " -f 2 | grep -E "^/(data|home|mine)"; stat -c %u:%a /home/app; ls -d /data; echo x > /data/x && cat /data/x',
          config: { mounts: [{ containerPath: '/mine', hostPath: world.site.logDir }] },
          meanwhile: async (id) => assert.deepEqual(await own(), mode === 'bind' ? [id] : []),
        })
        const wanted = {
          mkdir: ['/mine', '1000:755', '/data', 'x'],
          bind: ['/data', '/mine', '/home/app', '1000:755', '/data', 'x'],
          ignore: [
            '/mine',
            '1000:755',
            'ls: /data: No such file or directory',
            "sh: can't create /data/x: nonexistent directory",
          ],
        }
        assert.deepEqual(lines.toSorted(), wanted[mode].toSorted())
        assert.deepEqual(await own(), [])
        await world.assertNothingLeft()
      })
    })
  }
})

describe('a CDI device', () => {
  const specDir = join(tmpdir(), `cricket-e2e-cdi-${process.pid}`)
  const world = useWorld({
    pulled: true,
    config: { sections: { container: { cdiSpecDirs: [specDir] } } },
  })

  before(async () => {
    await mkdir(specDir, { recursive: true })
    const document = {
      cdiVersion: '0.6.0',
      kind: 'e2e.test/thing',
      containerEdits: { env: ['CLASS=thing'] },
      devices: [
        {
          name: 'one',
          containerEdits: {
            env: ['DEVICE=one'],
            deviceNodes: [{ path: '/dev/thing', hostPath: '/dev/fuse', permissions: 'r' }],
            mounts: [{ hostPath: '/proc/version', containerPath: '/etc/driver', options: ['ro', 'bind'] }],
            hooks: [{ hookName: 'createContainer', path: '/bin/true', args: ['true'] }],
          },
        },
      ],
    }
    await writeFile(`${specDir}/thing.yaml`, stringify(document))
    await writeFile(`${specDir}/broken.json`, '{')
  })
  after(async () => {
    await rm(specDir, { recursive: true, force: true })
  })

  it('brings its nodes, mounts, hooks and environment', async () => {
    const { lines } = await see(world, {
      name: 'cdi',
      script: 'echo $CLASS $DEVICE; : < /dev/thing && echo opened; cut -d " " -f 1 /etc/driver; (: > /dev/thing) 2>&1',
      config: { CDIDevices: [{ name: 'e2e.test/thing=one' }] },
    })
    assert.deepEqual(
      lines.filter((line) => !line.includes('thing:')),
      ['thing one', 'opened', 'Linux'],
    )
    assert.match(lines.join('\n'), /Operation not permitted/)
    await world.assertNothingLeft()
  })

  it('of an annotation of the container is as good, one of the pod is not', async () => {
    const annotations = { 'cdi.k8s.io/plugin': 'e2e.test/thing=one' }
    const script = 'echo $CLASS $DEVICE.'
    const own = await see(world, { name: 'cdi-own', script, config: { annotations } })
    assert.deepEqual(own.lines, ['thing one.'])
    const pod = await see(world, { name: 'cdi-pod', script, pod: { annotations } })
    assert.deepEqual(pod.lines, ['.'])
    await world.assertNothingLeft()
  })

  it('that nobody describes refuses the container', async () => {
    const asked = (name: string) => see(world, { name: 'none', script: 'true', config: { CDIDevices: [{ name }] } })
    await assert.rejects(asked('e2e.test/thing=two'), failsWith(status.FAILED_PRECONDITION, /thing=two.*broken\.json/))
    await assert.rejects(asked('thing'), failsWith(status.INVALID_ARGUMENT, /CDI_devices/))
    await world.assertNothingLeft()
  })
})

describe('seccomp profiles of the configuration', () => {
  const profile = join(tmpdir(), `cricket-e2e-seccomp-${process.pid}.json`)
  const world = useWorld({
    config: {
      sections: {
        runtimes: { handlers: { runc: {}, strict: { path: '/usr/sbin/runc', seccompProfile: profile } } },
        container: { privilegedSeccompProfile: profile },
      },
    },
  })
  before(async () => {
    const rules = [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 73 }]
    await writeFile(profile, JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: rules }))
  })
  after(async () => {
    await rm(profile, { force: true })
  })

  it('hold for RuntimeDefault of that handler only', async () => {
    const config = security({ seccomp: { profileType: 0 } })
    const script = 'mkdir /tmp/x && echo made'
    const strict = await see(world, { name: 'strict', script, config, handler: 'strict' })
    assert.doesNotMatch(strict.lines.join('\n'), /made/)
    const other = await see(world, { name: 'other', script, config })
    assert.deepEqual(other.lines, ['made'])
    const unconfined = await see(world, {
      name: 'unconfined',
      script,
      config: security({ seccomp: { profileType: 1 } }),
      handler: 'strict',
    })
    assert.deepEqual(unconfined.lines, ['made'])
    await world.assertNothingLeft()
  })
})
