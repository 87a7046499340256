/**
 * Containers written to archives and made from them. What CRIU itself has to do is tried only where it works; that a container runs on when a
 * checkpoint fails, hangs or is cut short is tried everywhere, with a stand-in.
 */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { readFile } from 'node:fs/promises'
import { homedir, release } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { after, before, beforeEach, describe, it, type TestContext } from 'node:test'
import { gzipSync } from 'node:zlib'
import { status } from '@grpc/grpc-js'
import * as tar from 'tar-stream'
import { type ContainerConfig, ContainerState, type DeepPartial, NamespaceMode } from '#proto/generated/api.ts'
import { failsWith } from './cri-client.ts'
import { cricketProgram, writeCricketConfig } from './cricket.ts'
import { useWorld } from './harness.ts'
import { imageSpec } from './image-spec.ts'
import { type Layer, makeImage, type OciImage, pushImage } from './oci-image.ts'
import { isPeer } from './peer.ts'
import {
  containerConfig,
  containerStatus,
  createContainer,
  podConfig,
  type RunningPod,
  readLog,
  removePod,
  startPod,
  until,
  untilExited,
} from './pods.ts'
import { Runtime } from './runtime.ts'

const { DEADLINE_EXCEEDED, FAILED_PRECONDITION, INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, UNIMPLEMENTED } = status

/** Writable by root alone, up to the top, unlike /tmp. */
const dir = mkdtempSync(join(homedir(), '.cricket-e2e-checkpoint-'))
after(() => rmSync(dir, { recursive: true, force: true }))
const archives = join(dir, 'archives')
mkdirSync(archives, { mode: 0o700 })

/** Stands before the real one and does what the file beside it says. */
const REAL = process.env.CRICKET_E2E_CRIU ?? '/usr/sbin/criu'
const CRIU = join(dir, 'bin/criu')
mkdirSync(join(dir, 'bin'))
writeFileSync(
  CRIU,
  `#!/bin/sh
read -r what < ${dir}/behaviour
case $what in
  fails) echo "no criu today" >&2; exit 1 ;;
  hangs) exec sleep 1000 ;;
  *) exec ${REAL} "$@" ;;
esac
`,
  { mode: 0o755 },
)
const criu = (behaviour: 'works' | 'fails' | 'hangs') => writeFileSync(join(dir, 'behaviour'), `${behaviour}\n`)
criu('works')

/** Why it does not work here. */
function obstacle(): string | undefined {
  if (!existsSync(REAL)) return 'host lacks criu'
  try {
    execFileSync(REAL, ['check'], { stdio: 'pipe' })
    return undefined
  } catch {
    return `host lacks a kernel that its criu knows ("${REAL} check" fails)`
  }
}
const noCriu = obstacle()
const needsCriu = (t: TestContext): boolean => {
  if (noCriu !== undefined) t.skip(noCriu)
  return noCriu === undefined
}

/** Since 6.16 the kernel answers two of the questions that CRIU has for every socket only for those of its own. */
const needsInetSockets = (t: TestContext): boolean => {
  const [major = 0, minor = 0] = release().split('.').map(Number)
  const version = execFileSync(REAL, ['--version'], { encoding: 'utf8' })
  const isKnown = major * 1000 + minor < 6016 || Number(/Version: (\d+\.\d+)/.exec(version)?.[1]) >= 4.2
  if (!isKnown) t.skip(`host lacks a criu that can ask kernel ${release()} for sockets of the Internet`)
  return isKnown
}

/** Without the capability (bit 24) CRIU cannot ask after the limits of processes of other users. */
const [, capabilities = '0'] = /^CapEff:\t([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? []
const USER = (BigInt(`0x${capabilities}`) >> 24n) & 1n ? 1234 : 0

const COUNT = 'i=0; while true; do i=$((i+1)); echo n$i; sleep 0.1; done'

type Entry = Parameters<tar.Pack['entry']>[0] & { content?: string }

async function packed(entries: readonly Entry[]): Promise<Buffer> {
  const packer = tar.pack()
  for (const { content, ...header } of entries) packer.entry(header, content ?? '')
  packer.finalize()
  return buffer(packer)
}

const sha256 = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

const layerOf = (content: Buffer): Layer => {
  const bytes = gzipSync(content)
  return {
    mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
    bytes,
    digest: sha256(bytes),
    diffId: sha256(content),
  }
}

function annotated(image: OciImage, annotations: Record<string, string>): OciImage {
  const bytes = Buffer.from(JSON.stringify({ ...JSON.parse(image.manifest.bytes.toString()), annotations }))
  return { ...image, manifest: { ...image.manifest, bytes, digest: sha256(bytes) } }
}

const SETTINGS = { mode: 'restore', criu: CRIU, archiveDirs: [archives] }

describe('checkpoints', { skip: isPeer && 'ours' }, () => {
  const world = useWorld({ config: { sections: { checkpoint: SETTINGS } } })
  const archive = (name: string) => join(archives, name)

  const startCounting = async (
    name: string,
    more: DeepPartial<ContainerConfig> = {},
    first = '',
  ): Promise<RunningPod> => {
    const config = containerConfig('main', world.image, ['sh', '-c', `${first}${COUNT}`], more)
    const pod = await startPod(world.cri, await podConfig(world.site, name), config)
    await untilCounted(pod, 5)
    return pod
  }
  const counted = async ({ logPath }: Pick<RunningPod, 'logPath'>) =>
    (await readLog(logPath)).flatMap(({ content }) =>
      /^n\d+\r?$/.test(content) ? [Number.parseInt(content.slice(1), 10)] : [],
    )
  const untilCounted = (pod: Pick<RunningPod, 'logPath'>, many: number) =>
    until(`${many} more numbers`, 60_000, async () => ((await counted(pod)).length >= many ? true : undefined))
  const goesOn = async (pod: RunningPod) => {
    const now = await counted(pod)
    await untilCounted(pod, now.length + 3)
    assert.equal((await containerStatus(world.cri, pod.containerId)).state, ContainerState.CONTAINER_RUNNING)
    // As if nothing had been.
    const all = await counted(pod)
    assert.deepEqual(
      all,
      all.map((_, index) => index + 1),
    )
  }
  const checkpoint = (pod: RunningPod, location: string, timeout = 60n) =>
    world.cri.runtime.checkpointContainer({ containerId: pod.containerId, location, timeout })
  const exec = async (containerId: string, ...cmd: string[]) => {
    const { stdout } = await world.cri.runtime.execSync({ containerId, cmd, timeout: 30n })
    return Buffer.from(stdout).toString().trim()
  }

  describe('of a container that cannot be dumped', () => {
    let pod: RunningPod
    before(async () => {
      pod = await startCounting('runs-on')
    })

    it('fail with a word of why, leave nothing, and the container runs on', async () => {
      criu('fails')
      await assert.rejects(
        checkpoint(pod, archive('failed.tar')),
        failsWith(FAILED_PRECONDITION, /Cannot checkpoint container/),
      )
      assert.deepEqual(readdirSync(archives), [])
      assert.deepEqual(readdirSync(world.site.path('root/checkpoints')), [])
      await goesOn(pod)
    })

    it('end in time when CRIU hangs, and the container runs on', async () => {
      criu('hangs')
      await assert.rejects(
        checkpoint(pod, archive('late.tar'), 1n),
        failsWith(DEADLINE_EXCEEDED, /took longer than 1 s; the container runs on/),
      )
      await goesOn(pod)
    })

    it('are cut short by the end of the daemon, and the container runs on', async () => {
      criu('hangs')
      const lost = assert.rejects(checkpoint(pod, archive('lost.tar')))
      const scratch = world.site.path('root/checkpoints', pod.containerId)
      await until('the checkpoint has begun', 20_000, async () => existsSync(scratch) || undefined)
      await until('it is frozen', 20_000, async () => (await isQuiet(pod)) || undefined)
      await world.runtime.kill()
      await lost
      await world.runtime.start()
      await goesOn(pod)
      assert.equal(existsSync(scratch), false)
      execFileSync('sh', [
        '-c',
        `for p in $(pgrep -f '^sleep 1000$'); do ls -l /proc/$p/exe >/dev/null 2>&1; done; true`,
      ])
    })

    it('do not keep it from being stopped', async () => {
      criu('hangs')
      const other = await startCounting('stopped')
      const failing = assert.rejects(checkpoint(other, archive('stopped.tar'), 3n))
      await until('it is frozen', 20_000, async () => (await isQuiet(other)) || undefined)
      await world.cri.runtime.stopContainer({ containerId: other.containerId, timeout: 0n })
      assert.equal((await untilExited(world.cri, other.containerId)).exitCode, 137)
      await failing
    })

    const isQuiet = async (which: RunningPod): Promise<boolean> => {
      const before = (await counted(which)).length
      await new Promise((resolve) => setTimeout(resolve, 500))
      return (await counted(which)).length === before
    }

    it('are refused for places that are not ours to write to', async () => {
      criu('fails')
      const open = join(dir, 'open')
      mkdirSync(open)
      chmodSync(open, 0o777)
      const foreign = join(dir, 'foreign')
      mkdirSync(foreign)
      execFileSync('chown', ['1000', foreign])
      for (const [location, code] of [
        ['', INVALID_ARGUMENT],
        ['relative.tar', INVALID_ARGUMENT],
        [`${archives}/../x.tar`, INVALID_ARGUMENT],
        [`${archives}/`, INVALID_ARGUMENT],
        [archives, FAILED_PRECONDITION],
        [join(dir, 'nowhere/x.tar'), FAILED_PRECONDITION],
        [join(open, 'x.tar'), FAILED_PRECONDITION],
        [join(foreign, 'x.tar'), FAILED_PRECONDITION],
        [world.site.path('state/x.tar'), FAILED_PRECONDITION],
        [world.site.path('root/images/x.tar'), FAILED_PRECONDITION],
      ] as const) {
        await assert.rejects(checkpoint(pod, location), failsWith(code, /location/), location)
      }
    })

    it('are refused for containers that do not run, or that could not be restored', async () => {
      const location = archive('refused.tar')
      await assert.rejects(
        world.cri.runtime.checkpointContainer({ containerId: 'f'.repeat(64), location }),
        failsWith(NOT_FOUND),
      )
      await assert.rejects(checkpoint(pod, location, -1n), failsWith(INVALID_ARGUMENT, /timeout/))
      const sandbox = await podConfig(world.site, 'shared', {
        linux: {
          cgroupParent: world.site.cgroupParent,
          securityContext: { namespaceOptions: { pid: NamespaceMode.POD } },
        },
      })
      const shared = containerConfig('main', world.image, ['sleep', '1000'], {
        linux: { securityContext: { namespaceOptions: { pid: NamespaceMode.POD } } },
      })
      const other = await startPod(world.cri, sandbox, shared)
      await assert.rejects(checkpoint(other, location), failsWith(FAILED_PRECONDITION, /process namespace/))
      await world.cri.runtime.stopContainer({ containerId: other.containerId, timeout: 0n })
      await assert.rejects(checkpoint(other, location), failsWith(FAILED_PRECONDITION, /it is exited/))
      assert.deepEqual(readdirSync(archives), [])
    })
  })

  describe('that CRIU makes', () => {
    const SECURE = {
      linux: {
        resources: { memoryLimitInBytes: 134_217_728n, oomScoreAdj: 999n },
        securityContext: {
          namespaceOptions: { pid: NamespaceMode.CONTAINER },
          noNewPrivs: true,
          runAsUser: { value: BigInt(USER) },
          seccomp: { profileType: 0 },
        },
      },
    } satisfies DeepPartial<ContainerConfig>
    const mount = (hostPath: string) => ({ mounts: [{ containerPath: '/data', hostPath }] })
    const [before1, after1] = [join(dir, 'data-before'), join(dir, 'data-after')]
    let pod: RunningPod

    before(() => {
      for (const [path, text] of [
        [before1, 'before'],
        [after1, 'after'],
      ] as const) {
        mkdirSync(path)
        writeFileSync(join(path, 'text'), text)
      }
    })

    // One for all of them, unless a failed test has taken it away.
    beforeEach(async () => {
      criu('works')
      const { containers } = await world.cri.runtime.listContainers({})
      if (noCriu !== undefined || containers.some(({ id }) => id === pod?.containerId)) return
      pod = await startCounting('origin', { ...SECURE, ...mount(before1) }, 'echo kept > /tmp/new; rm /bin/wget; ')
    })

    const restored = async (name: string, location: string, more: DeepPartial<ContainerConfig> = {}) => {
      const sandbox = await podConfig(world.site, name)
      const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
      const config = containerConfig('main', location, [], { ...SECURE, ...mount(after1), ...more })
      const containerId = await createContainer(world.cri, podSandboxId, sandbox, config)
      return { sandbox, sandboxId: podSandboxId, containerId, logPath: join(sandbox.logDirectory, config.logPath) }
    }

    it('are archives as others write and read them, for root alone, and the container runs on', async (t) => {
      if (!needsCriu(t)) return
      const location = archive('whole.tar')
      await checkpoint(pod, location)
      assert.equal(statSync(location).mode & 0o777, 0o600)
      assert.deepEqual(readdirSync(archives), ['whole.tar'])
      const names = execFileSync('tar', ['-tf', location], { encoding: 'utf8' }).split('\n')
      for (const name of ['config.dump', 'spec.dump', 'rootfs-diff.tar', 'deleted.files', 'dump.log', 'stats-dump'])
        assert.ok(names.includes(name), name)
      assert.ok(names.includes('checkpoint/inventory.img'))
      const read = (name: string) => JSON.parse(execFileSync('tar', ['-xOf', location, name], { encoding: 'utf8' }))
      const { id, name, rootfsImageName, rootfsImageRef, runtime, restored } = read('config.dump')
      assert.deepEqual(
        [id, name, rootfsImageName, runtime, restored],
        [pod.containerId, 'main', world.image, 'runc', false],
      )
      assert.match(rootfsImageRef, /@sha256:/)
      const { annotations } = read('spec.dump')
      assert.equal(annotations['io.kubernetes.cri.sandbox-name'], 'origin')
      assert.equal(JSON.parse(annotations['io.kubernetes.cri-o.Metadata']).name, 'main')
      await goesOn(pod)
      // Again, in place of the first.
      await checkpoint(pod, location)
      await goesOn(pod)
    })

    it('are restored in another pod: processes, files and limits as they were, mounts as they are wanted now', async (t) => {
      if (!needsCriu(t)) return
      const location = archive('restored.tar')
      await checkpoint(pod, location)
      const last = (await counted(pod)).length
      const other = await restored('restored', location)
      assert.equal((await containerStatus(world.cri, other.containerId)).state, ContainerState.CONTAINER_CREATED)
      // The daemon may go and come before the start and after it.
      await world.runtime.kill()
      await world.runtime.start()
      await world.cri.runtime.startContainer({ containerId: other.containerId })
      await untilCounted(other, 3)
      const [first = 0, ...rest] = await counted(other)
      assert.ok(first > 3 && first <= last + 1, `goes on at ${first} after ${last}`)
      assert.deepEqual(rest.slice(0, 2), [first + 1, first + 2])
      assert.equal(await exec(other.containerId, 'cat', '/tmp/new', '/data/text'), 'kept\nafter')
      assert.equal(await exec(other.containerId, 'sh', '-c', 'ls /bin | grep wg; true'), '')
      assert.equal(await exec(other.containerId, 'hostname'), 'restored')
      assert.match(
        await exec(other.containerId, 'sh', '-c', 'grep -E "^(Uid|NoNewPrivs|Seccomp):" /proc/1/status'),
        new RegExp(`^Uid:\\t${USER}\\t.*\nNoNewPrivs:\\t1\nSeccomp:\\t2$`),
      )
      await world.runtime.kill()
      await world.runtime.start()
      await untilCounted(other, 6)
      assert.equal(existsSync(world.site.path('root/checkpoints', other.containerId)), false)
      await exec(other.containerId, 'kill', '-9', '1').catch(() => {})
      await world.cri.runtime.stopContainer({ containerId: other.containerId, timeout: 0n })
      const ended = await untilExited(world.cri, other.containerId)
      assert.deepEqual([ended.exitCode, ended.reason], [137, 'Error'])
      await world.cri.runtime.removeContainer({ containerId: other.containerId })
      await goesOn(pod)
    })

    it('are restored any number of times, and can be made of what was restored', async (t) => {
      if (!needsCriu(t)) return
      const [one, two] = [archive('one.tar'), archive('two.tar')]
      await checkpoint(pod, one)
      const again = await restored('again', one)
      await world.cri.runtime.startContainer({ containerId: again.containerId })
      await untilCounted(again, 3)
      await checkpoint(again, two)
      await untilCounted(again, 6)
      const third = await restored('third', two)
      await world.cri.runtime.startContainer({ containerId: third.containerId })
      await untilCounted(third, 3)
      assert.equal(await exec(third.containerId, 'cat', '/tmp/new'), 'kept')
      for (const { sandboxId } of [again, third]) {
        await world.cri.runtime.stopPodSandbox({ podSandboxId: sandboxId })
        await world.cri.runtime.removePodSandbox({ podSandboxId: sandboxId })
      }
    })

    it('may be of containers with a terminal', async (t) => {
      if (!needsCriu(t)) return
      const location = archive('terminal.tar')
      const tty = { tty: true, stdin: true }
      const first = await startCounting('terminal', { ...SECURE, ...mount(before1), ...tty })
      await checkpoint(first, location)
      await goesOn(first)
      const other = await restored('terminal2', location, tty)
      await world.cri.runtime.startContainer({ containerId: other.containerId })
      await untilCounted(other, 3)
      assert.match(await exec(other.containerId, 'readlink', '/proc/1/fd/0'), /^\/dev\/pts\/0$/)
    })

    it('may be of containers with connections, which are closed when they are restored', async (t) => {
      if (!needsCriu(t) || !needsInetSockets(t)) return
      const location = archive('connected.tar')
      const connect = 'httpd -p 7777 -h /; sleep 1000 | nc 127.0.0.1 7777 & sleep 1; '
      const first = await startCounting('connected', { ...SECURE, ...mount(before1) }, connect)
      const connections = async ({ containerId }: { containerId: string }) => {
        const sockets = await exec(containerId, 'cat', '/proc/net/tcp', '/proc/net/tcp6')
        return sockets.split('\n').filter((line) => line.includes(':1E61 ') && / 01 /.test(line)).length
      }
      assert.equal(await connections(first), 2)
      await checkpoint(first, location)
      await goesOn(first)
      assert.equal(await connections(first), 2)
      const other = await restored('connected2', location)
      await world.cri.runtime.startContainer({ containerId: other.containerId })
      await untilCounted(other, 3)
      assert.equal(await connections(other), 0)
    })

    it('that were never started end and go like others', async (t) => {
      if (!needsCriu(t)) return
      const location = archive('unstarted.tar')
      await checkpoint(pod, location)
      const other = await restored('unstarted', location)
      await world.cri.runtime.stopContainer({ containerId: other.containerId, timeout: 10n })
      const { state, exitCode } = await containerStatus(world.cri, other.containerId)
      assert.deepEqual([state, exitCode], [ContainerState.CONTAINER_EXITED, 137])
      await world.cri.runtime.removeContainer({ containerId: other.containerId })
      assert.ok(!readdirSync(world.site.path('root/checkpoints')).includes(other.containerId))
    })

    it('give nobody more than the request says, and nothing less than it says', async (t) => {
      if (!needsCriu(t)) return
      const location = archive('confined.tar')
      await checkpoint(pod, location)
      const files = readdirSync(world.site.path('root/checkpoints'))
      const context = SECURE.linux.securityContext
      const secure = (rest: object) => ({ linux: { securityContext: { ...context, ...rest } } })
      for (const [what, more] of [
        ['process.user', secure({ runAsUser: { value: 77n } })],
        ['process.noNewPrivileges', secure({ noNewPrivs: false })],
        ['process.capabilities.bounding', secure({ capabilities: { dropCapabilities: ['KILL'] } })],
        ['linux.seccomp', secure({ seccomp: { profileType: 1 } })],
        ['linux.maskedPaths', secure({ maskedPaths: ['/proc/cpuinfo'] })],
        ['root.readonly', secure({ readonlyRootfs: true })],
        ['mounts /data', { mounts: [{ containerPath: '/data', hostPath: after1, readonly: true }] }],
        ['mounts /data', { mounts: [] }],
        ['mounts /more', { mounts: [...mount(after1).mounts, { containerPath: '/more', hostPath: after1 }] }],
      ] as const) {
        await assert.rejects(
          restored('confined', location, more as DeepPartial<ContainerConfig>),
          failsWith(FAILED_PRECONDITION, new RegExp(`"${what}" `)),
          what,
        )
      }
      assert.deepEqual(readdirSync(world.site.path('root/checkpoints')), files)
    })

    it('come as images, too, from repositories that the node trusts', async (t) => {
      if (!needsCriu(t)) return
      const location = archive('image.tar')
      await checkpoint(pod, location)
      const { host, url } = world.registry
      const push = async (repository: string, content: Buffer) => {
        const layer = layerOf(content)
        const annotations = { 'io.kubernetes.cri-o.annotations.checkpoint.name': 'main' }
        await pushImage(url, repository, '1', annotated(makeImage([layer]), annotations), { as: 'manifest' })
        const image = { image: `${host}/${repository}:1` }
        await world.cri.images.pullImage({ image: imageSpec(image.image) })
        return image.image
      }
      const content = await readFile(location)
      // Other bytes: what is the same is trusted, wherever it comes from.
      const foreign = await push('foreign', Buffer.concat([content, Buffer.alloc(10_240)]))
      const link = { name: 'checkpoint/link', type: 'symlink', linkname: '/etc/shadow' } as const
      const hostile = await push('trusted/hostile', await packed([link]))
      const trusted = await push('trusted/main', content)
      const refusal = failsWith(PERMISSION_DENIED, /"checkpoint.imageRepositories" \(none\)/)
      await assert.rejects(restored('untrusted', trusted), refusal)
      const sections = { checkpoint: { ...SETTINGS, imageRepositories: [`${host}/trusted`] } }
      await writeCricketConfig(world.site, { insecureRegistries: [host], sections })
      await world.runtime.kill()
      await world.runtime.start()
      await assert.rejects(restored('foreign', foreign), failsWith(PERMISSION_DENIED, /imageRepositories/))
      await assert.rejects(restored('hostile', hostile), failsWith(FAILED_PRECONDITION, /symlink.*"checkpoint\/link"/))
      const other = await restored('imaged', trusted)
      await world.cri.runtime.startContainer({ containerId: other.containerId })
      await untilCounted(other, 3)
      assert.equal(await exec(other.containerId, 'cat', '/tmp/new'), 'kept')
    })

    it('that CRIU cannot restore leave a container that says so', async (t) => {
      if (!needsCriu(t)) return
      const location = archive('unrestorable.tar')
      await checkpoint(pod, location)
      const other = await restored('unrestorable', location)
      criu('fails')
      await assert.rejects(
        world.cri.runtime.startContainer({ containerId: other.containerId }),
        failsWith(FAILED_PRECONDITION, /Cannot restore container/),
      )
      criu('works')
      const { state, exitCode, reason, message } = await containerStatus(world.cri, other.containerId)
      assert.deepEqual([state, exitCode, reason], [ContainerState.CONTAINER_EXITED, 128, 'StartError'])
      assert.match(message, /Cannot restore container/)
    })
  })

  describe('from others (B14)', () => {
    const create = async (image: string) => {
      const before = readdirSync(world.site.path('root/checkpoints'))
      const sandbox = await podConfig(world.site, 'hostile')
      const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
      try {
        return await createContainer(world.cri, podSandboxId, sandbox, containerConfig('main', image, []))
      } finally {
        await world.cri.runtime.stopPodSandbox({ podSandboxId })
        await world.cri.runtime.removePodSandbox({ podSandboxId })
        assert.deepEqual(readdirSync(world.site.path('root/checkpoints')), before)
      }
    }
    const config = { id: 'x', name: 'main', rootfsImage: 'f'.repeat(64), rootfsImageName: 'evil' }
    const spec = { root: { path: '/' }, process: { user: { uid: 0, gid: 0 } }, linux: {} }

    it('are not opened unless nobody but root can have put them there', async () => {
      const good = archive('good.tar')
      writeFileSync(good, '')
      const outside = join(dir, 'outside.tar')
      writeFileSync(outside, '')
      symlinkSync(outside, archive('link.tar'))
      symlinkSync('../outside.tar', archive('relative.tar'))
      symlinkSync('good.tar', archive('inside.tar'))
      symlinkSync(dir, archive('up'))
      writeFileSync(archive('shared.tar'), '')
      chmodSync(archive('shared.tar'), 0o666)
      writeFileSync(archive('foreign.tar'), '')
      execFileSync('chown', ['1000', archive('foreign.tar')])
      mkdirSync(archive('open'))
      writeFileSync(archive('open/x.tar'), '')
      chmodSync(archive('open'), 0o1777)
      execFileSync('mkfifo', [archive('pipe')])
      for (const path of [
        ...['/etc/shadow', outside, `${archives}/../outside.tar`, archive('link.tar'), archive('up/outside.tar')],
        ...[archive('relative.tar'), archive('inside.tar')],
        ...[archive('shared.tar'), archive('foreign.tar'), archive('open/x.tar'), archive('pipe'), archive('open')],
      ]) {
        await assert.rejects(create(path), failsWith(PERMISSION_DENIED, /image/), path)
      }
      await assert.rejects(create(archive('absent.tar')), failsWith(NOT_FOUND))
      for (const name of readdirSync(archives)) rmSync(archive(name), { recursive: true })
    })

    it('are refused by name for what must not be in them', async () => {
      const pack = async (...entries: Entry[]): Promise<string> => {
        writeFileSync(archive('hostile.tar'), await packed(entries))
        return archive('hostile.tar')
      }
      const good = [
        { name: 'config.dump', content: JSON.stringify(config) },
        { name: 'spec.dump', content: JSON.stringify(spec) },
        { name: 'checkpoint/inventory.img', content: 'x' },
      ]
      const without = (name: string) => good.filter((entry) => entry.name !== name)
      for (const [entries, message] of [
        [[...good, { name: 'container.log', type: 'symlink', linkname: '/etc/shadow' }], /"container.log"/],
        [
          [...good, { name: 'checkpoint/mem', type: 'character-device', devmajor: 1, devminor: 1 }],
          /"checkpoint\/mem"/,
        ],
        [[...good, { name: 'checkpoint/hard', type: 'link', linkname: '/etc/shadow' }], /"checkpoint\/hard"/],
        [[...good, { name: '../../escaped', content: 'x' }], /leads upwards/],
        [[{ name: 'checkpoint', type: 'symlink', linkname: '/' }, ...good], /"checkpoint"/],
        [without('config.dump'), /no "config.dump"/],
        [without('spec.dump'), /no "spec.dump"/],
        [without('checkpoint/inventory.img'), /no "checkpoint"/],
        [[...without('config.dump'), { name: 'config.dump', content: '{' }], /"config.dump" is not JSON/],
        [[...without('config.dump'), { name: 'config.dump', content: '{"id":7}' }], /"config.dump" is not valid/],
        [good, /image that is not here.*"evil"/],
      ] as [Entry[], RegExp][]) {
        await assert.rejects(create(await pack(...entries)), failsWith(FAILED_PRECONDITION, message), String(message))
      }
    })

    it('are read by a daemon that may be killed meanwhile: nothing is left', async () => {
      writeFileSync(archive('read.tar'), await packed([{ name: 'config.dump', content: JSON.stringify(config) }]))
      const containers = async () => (await world.cri.runtime.listContainers({})).containers.map(({ id }) => id).sort()
      const files = () =>
        ['root/checkpoints', 'root/containers', 'state/containers'].map((path) =>
          readdirSync(world.site.path(path)).sort(),
        )
      const before = [await containers(), files()]
      await world.runtime.stop()
      const program = cricketProgram(world.site)
      const dying = new Runtime({
        ...program,
        env: { ...program.env, CRICKET_CRASH_POINT: 'CreateContainer/archive#1' },
      })
      await dying.start()
      const sandbox = await podConfig(world.site, 'crashed')
      const { podSandboxId } = await dying.cri.runtime.runPodSandbox({ config: sandbox })
      const made = createContainer(dying.cri, podSandboxId, sandbox, containerConfig('main', archive('read.tar'), []))
      await assert.rejects(made)
      await until('the daemon has died', 10_000, async () => !dying.isRunning || undefined)
      await world.runtime.start()
      assert.deepEqual([await containers(), files()], before)
      await removePod(world.cri, podSandboxId)
      rmSync(archive('read.tar'))
    })
  })
})

describe('checkpoints that are not configured', { skip: isPeer && 'ours' }, () => {
  const world = useWorld()

  it('are refused with the name of the key, and no file is opened for an image', async () => {
    const pod = await startPod(
      world.cri,
      await podConfig(world.site, 'plain'),
      containerConfig('main', world.image, ['sleep', '1000']),
    )
    const { containerId } = pod
    await assert.rejects(
      world.cri.runtime.checkpointContainer({ containerId, location: join(archives, 'off.tar') }),
      failsWith(UNIMPLEMENTED, /"checkpoint.mode"/),
    )
    const config = containerConfig('second', join(archives, 'x.tar'), [])
    await assert.rejects(
      createContainer(world.cri, pod.sandboxId, pod.sandbox, config),
      failsWith(NOT_FOUND, /no image/),
    )
  })
})
