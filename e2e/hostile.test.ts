/**
 * Requests and images that attack the node, one test for each row of the threat list in docs/security.md (its names are in
 * the titles). After each one a tree of the host is as it was, the daemon answers, and nothing is left.
 */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, before, describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import {
  type ContainerConfig,
  type DeepPartial,
  NamespaceMode,
  type PodSandboxConfig,
  SecurityProfile_ProfileType,
} from '#proto/generated/api.ts'
import { type Canary, makeCanary } from './canary.ts'
import { CriError, failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { imageSpec } from './image-spec.ts'
import { type ImageConfig, type LayerEntry, makeImage, makeLayer, pushImage } from './oci-image.ts'
import { containerConfig, createContainer, podConfig, readLog, removePod, untilExited } from './pods.ts'

const { INVALID_ARGUMENT, FAILED_PRECONDITION, NOT_FOUND } = status
const REFUSED = [INVALID_ARGUMENT, FAILED_PRECONDITION]

interface Outcome {
  readonly error?: CriError
  /** What the container said. */
  readonly said: string
  /** The config.json that the runtime was given. */
  readonly spec: OciSpec
}

interface OciSpec {
  readonly annotations: Record<string, string>
  readonly process: {
    readonly user: { uid: number; gid: number; additionalGids: number[] }
    readonly env: string[]
    readonly cwd: string
  }
  readonly linux: { readonly seccomp?: object; readonly resources: { readonly unified?: object } }
}

describe('a hostile', () => {
  const world = useWorld()
  let canary: Canary
  let count = 0

  before(() => {
    canary = makeCanary(world.site.path('canary'))
  })
  afterEach(async () => {
    canary.assertUnharmed()
    const asked = performance.now()
    await world.cri.runtime.version({}, { timeoutMs: 1000 })
    await world.cri.runtime.status({}, { timeoutMs: 2000 })
    assert.ok(performance.now() - asked < 3000)
    await world.assertNothingLeft()
  })

  const security = (rest: object): DeepPartial<ContainerConfig> => ({
    linux: { securityContext: { namespaceOptions: { pid: NamespaceMode.CONTAINER }, ...rest } },
  })

  /** The busybox image with one more layer, pulled. */
  const image = async (entries: LayerEntry[], config: ImageConfig = {}): Promise<string> => {
    const name = `hostile${++count}`
    const layers = [...world.busybox.layers, ...(entries.length > 0 ? [await makeLayer(entries)] : [])]
    const base = { Cmd: ['/bin/sh'], Env: ['PATH=/bin'] }
    await pushImage(world.registry.url, name, '1', makeImage(layers, { ...base, ...config }))
    const reference = `${world.registry.host}/${name}:1`
    await world.cri.images.pullImage({ image: imageSpec(reference) })
    return reference
  }

  const specOf = async (containerId: string): Promise<OciSpec> => {
    const { info } = await world.cri.runtime.containerStatus({ containerId, verbose: true })
    const { runtimeSpec }: { runtimeSpec: OciSpec } = JSON.parse(info.info ?? '{}')
    return runtimeSpec
  }

  interface Attempt {
    readonly config?: DeepPartial<ContainerConfig>
    readonly image?: string
    readonly script?: string
    readonly sandbox?: DeepPartial<PodSandboxConfig>
    readonly while?: (containerId: string) => Promise<void>
  }

  const NOTHING: OciSpec = {
    annotations: {},
    process: { user: { uid: -1, gid: -1, additionalGids: [] }, env: [], cwd: '' },
    linux: { resources: {} },
  }

  /** Makes and runs a container, and removes all of it. */
  const attempt = async (attack: Attempt): Promise<Outcome> => {
    const sandbox = await podConfig(world.site, `hostile-${++count}`, attack.sandbox)
    let pod = ''
    try {
      pod = (await world.cri.runtime.runPodSandbox({ config: sandbox })).podSandboxId
      const config = containerConfig(
        'main',
        attack.image ?? world.image,
        ['sh', '-c', attack.script ?? 'true'],
        attack.config,
      )
      const containerId = await createContainer(world.cri, pod, sandbox, config)
      const spec = await specOf(containerId)
      await world.cri.runtime.startContainer({ containerId })
      await attack.while?.(containerId)
      await untilExited(world.cri, containerId)
      const said = (await readLog(join(sandbox.logDirectory, 'main/0.log'))).map(({ content }) => content).join('\n')
      return { said, spec }
    } catch (error) {
      if (!(error instanceof CriError)) throw error
      return { error, said: '', spec: NOTHING }
    } finally {
      if (pod !== '') await removePod(world.cri, pod)
    }
  }

  const refused = (outcome: Outcome, codes: readonly status[], what: string): void => {
    assert.ok(outcome.error, `was not refused: ${what}`)
    assert.ok(codes.includes(outcome.error.code), `${what}: ${outcome.error.message}`)
    assert.ok(!outcome.error.details.includes(canary.secret))
  }

  const pod = async (rest: DeepPartial<PodSandboxConfig>): Promise<Outcome> => attempt({ sandbox: rest })

  const podLinux = (sysctls: Record<string, string>, namespaceOptions: object = {}): DeepPartial<PodSandboxConfig> => ({
    linux: {
      cgroupParent: world.site.cgroupParent,
      sysctls,
      securityContext: { namespaceOptions: { pid: 1, ...namespaceOptions } },
    },
  })

  describe('request', () => {
    it('A1: sysctls that smuggle others are refused', async () => {
      const pairs: [string, string][] = [
        ['kernel.shm_rmid_forced', '1+kernel.core_pattern=|/tmp/x'],
        ['kernel.shm_rmid_forced', '1\nkernel.core_pattern=|/tmp/x'],
        ['kernel.shm_rmid_forced', '1\0'],
        ['kernel.shm_rmid_forced', '9'.repeat(1 << 20)],
        ['kernel.core_pattern', '|/tmp/x'],
        ['kernel.shm_rmid_forced=1,kernel.core_pattern', 'x'],
        ['kernel/../kernel/core_pattern', 'x'],
        ['net.ipv4/../../kernel/core_pattern', 'x'],
        ['net/../kernel/core_pattern', 'x'],
        ['net.ipv4.ip_forward\n', '1'],
        ['-s', '1'],
        ['vm.swappiness', '1'],
        ['', ''],
      ]
      for (const [key, value] of pairs)
        refused(await pod(podLinux({ [key]: value })), [INVALID_ARGUMENT], JSON.stringify(key))
    })

    it('A2: sysctls of the node are refused when the pod shares its namespaces', async () => {
      for (const key of ['net.ipv4.ip_forward', 'net/ipv4/ip_forward', 'net.ipv4/ip_forward']) {
        refused(await pod(podLinux({ [key]: '0' }, { network: NamespaceMode.NODE })), [INVALID_ARGUMENT], key)
      }
      for (const key of ['kernel.shmmax', 'kernel/shmmax', 'fs.mqueue.msg_max', 'kernel.sem', 'kernel.msgmax']) {
        refused(await pod(podLinux({ [key]: '1' }, { ipc: NamespaceMode.NODE })), [INVALID_ARGUMENT], key)
      }
    })

    it('A3, A4: annotations of pod and container never reach the runtime', async () => {
      const annotations = {
        'org.systemd.property.SuccessAction': "'poweroff'",
        'run.oci.hooks.stderr': '/etc/x',
        'org.criu.config': '/evil',
        'module.wasm.image/variant': 'compat',
        bundle: '/evil',
        'io.kubernetes.cri.container-type': 'sandbox',
        'io.kubernetes.cri-o.UnifiedCgroup.main': 'memory.max=max;cgroup.procs=1',
        'io.kubernetes.cri-o.unifiedcgroup.main': 'memory.max=max',
      }
      const { error, spec } = await attempt({ sandbox: { annotations }, config: { annotations } })
      assert.equal(error, undefined)
      assert.equal(spec.annotations['io.kubernetes.cri.container-type'], 'container')
      const names = Object.keys(spec.annotations)
      assert.deepEqual(
        names.filter((name) => !/^io\.(cricket\.|kubernetes\.cri\.)/.test(name)),
        [],
      )
      assert.equal(spec.linux.resources.unified, undefined)
      const unified = { 'cgroup.procs': '1' }
      refused(await attempt({ config: { linux: { resources: { unified } } } }), REFUSED, 'unified cgroup.procs')
    })

    it('A5: a HOME that breaks out of its line in passwd is refused', async () => {
      for (const home of ['/root\nevil::0:0::/:/bin/sh', '/x:/bin/sh', '/x\r', '/x\u2028y']) {
        const envs = [{ key: 'HOME', value: Buffer.from(home) }]
        const config = { envs, ...security({ runAsUser: { value: 4321n } }) }
        refused(await attempt({ config }), [INVALID_ARGUMENT], JSON.stringify(home))
        const fromImage = await image([], { Env: [`HOME=${home}`, 'PATH=/bin'] })
        refused(
          await attempt({ image: fromImage, config: security({ runAsUser: { value: 4321n } }) }),
          REFUSED,
          'image',
        )
      }
    })

    it('A7: ids out of range are refused, and digits are never a name', async () => {
      for (const value of [-1n, 2_147_483_648n, 4_294_967_294n, 4_294_967_295n, 4_294_967_296n, 2n ** 63n - 1n]) {
        refused(await attempt({ config: security({ runAsUser: { value } }) }), [INVALID_ARGUMENT], `user ${value}`)
        const group = security({ runAsUser: { value: 1n }, runAsGroup: { value } })
        refused(await attempt({ config: group }), [INVALID_ARGUMENT], `group ${value}`)
        refused(
          await attempt({ config: security({ supplementalGroups: [value] }) }),
          [INVALID_ARGUMENT],
          `groups ${value}`,
        )
      }
    })

    it('A8: the primary group is always among the groups, in exec too', async () => {
      const forms: [object, RegExp][] = [
        [{ runAsUser: { value: 1000n } }, /^(?=.*\b1000\b)(?=.*\b2000\b)/],
        [{ runAsUsername: 'app', supplementalGroups: [77n] }, /^(?=.*\b1000\b)(?=.*\b2000\b)(?=.*\b77\b)/],
        [{ runAsUsername: 'app', supplementalGroupsPolicy: 1 }, /^1000$/],
        [{ runAsUser: { value: 1000n }, runAsGroup: { value: 3000n }, supplementalGroupsPolicy: 1 }, /^3000$/],
      ]
      for (const [context, wanted] of forms) {
        const { said, error, spec } = await attempt({
          config: security(context),
          script: 'id -G; sleep 1',
          while: async (containerId) => {
            const { stdout } = await world.cri.runtime.execSync({ containerId, cmd: ['id', '-G'], timeout: 10n })
            assert.match(Buffer.from(stdout).toString().trim(), wanted)
          },
        })
        assert.equal(error, undefined)
        assert.match(said, wanted)
        // `id` adds the primary group by itself.
        assert.ok(spec.process.user.additionalGids.includes(spec.process.user.gid))
      }
    })

    it('A9: capabilities are never inheritable, and unknown ones are refused', async () => {
      const contexts = [
        {},
        { runAsUser: { value: 1000n } },
        { capabilities: { addCapabilities: ['ALL'] } },
        { capabilities: { dropCapabilities: ['ALL'], addCapabilities: ['cap_chown'] } },
      ]
      for (const context of contexts) {
        const { said, error } = await attempt({ config: security(context), script: 'grep Cap /proc/self/status' })
        assert.equal(error, undefined)
        assert.match(said, /CapInh:\s+0{16}[\s\S]*CapAmb:\s+0{16}/)
        if ('runAsUser' in context) assert.match(said, /CapEff:\s+0{16}/)
        if (context.capabilities?.dropCapabilities) assert.match(said, /CapBnd:\s+0{15}1/)
      }
      for (const name of ['CAP_NONSENSE', '', 'CHOWN ', 'CAP_CAP_CHOWN']) {
        refused(
          await attempt({ config: security({ capabilities: { addCapabilities: [name] } }) }),
          [INVALID_ARGUMENT],
          name,
        )
        refused(
          await attempt({ config: security({ capabilities: { dropCapabilities: [name] } }) }),
          [INVALID_ARGUMENT],
          name,
        )
      }
    })

    it('A10: sets of processors are never expanded', async () => {
      for (const cpusetCpus of [
        '0-4294967295',
        `0${',1'.repeat(1_000_000)}`,
        '-1',
        '0-',
        '0\n',
        '1-0',
        '0,,1',
        'all',
      ]) {
        const began = performance.now()
        refused(
          await attempt({ config: { linux: { resources: { cpusetCpus } } } }),
          [INVALID_ARGUMENT],
          cpusetCpus.slice(0, 20),
        )
        assert.ok(performance.now() - began < 5000)
      }
    })

    it('A12: containers made at once from one image do not see each other’s environment', async () => {
      const sandbox = await podConfig(world.site, 'aliasing')
      const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
      const made = await Promise.all(
        Array.from({ length: 30 }, async (_, index) => {
          const envs = [{ key: `ONLY_${index}`, value: Buffer.from(`secret-${index}`) }]
          const id = await createContainer(
            world.cri,
            podSandboxId,
            sandbox,
            containerConfig(`c${index}`, world.image, ['true'], { envs }),
          )
          return { id, index }
        }),
      )
      for (const { id, index } of made) {
        const { env } = (await specOf(id)).process
        assert.deepEqual(
          env.filter((entry) => entry.startsWith('ONLY_')),
          [`ONLY_${index}=secret-${index}`],
        )
      }
      await removePod(world.cri, podSandboxId)
    })

    it('A13: a seccomp profile that cannot be had never means none', async () => {
      const dir = world.site.path('profiles')
      mkdirSync(dir, { recursive: true })
      writeFileSync(join(dir, 'bad.json'), '{')
      writeFileSync(join(dir, 'unknown.json'), '{"defaultAction":"SCMP_ACT_PRETEND"}')
      writeFileSync(join(dir, 'large.json'), ' '.repeat(2 << 20))
      execFileSync('mkfifo', [join(dir, 'fifo.json')])
      const refs = [
        '',
        '../../x',
        'localhost/',
        '/no/such/profile',
        dir,
        '/dev/zero',
        ...['bad', 'unknown', 'large', 'fifo'].map((name) => join(dir, `${name}.json`)),
      ]
      for (const localhostRef of refs) {
        const seccomp = { profileType: SecurityProfile_ProfileType.Localhost, localhostRef }
        refused(await attempt({ config: security({ seccomp }) }), REFUSED, localhostRef)
      }
      const { spec } = await attempt({ config: security({ seccomp: { profileType: 0 } }) })
      assert.ok(spec.linux.seccomp)
      rmSync(dir, { recursive: true })
    })

    it('A13: AppArmor and SELinux that the node does not have refuse the container', async (t) => {
      const { info } = await world.cri.runtime.status({ verbose: true })
      const host: { apparmor: boolean; selinux: boolean } = JSON.parse(info.host ?? '{}')
      if (host.apparmor || host.selinux) return t.skip('host has AppArmor or SELinux')
      const apparmor = { profileType: SecurityProfile_ProfileType.Localhost, localhostRef: 'not-loaded' }
      refused(await attempt({ config: security({ apparmor }) }), REFUSED, 'apparmor')
      refused(await attempt({ config: security({ selinuxOptions: { type: 'container_t' } }) }), REFUSED, 'selinux')
    })

    it('A14: values that are too long or too many are refused', async () => {
      const many = (count: number) => Array.from({ length: count }, (_, index) => index)
      const attacks: Record<string, DeepPartial<ContainerConfig>> = {
        path: { mounts: [{ containerPath: `/${'x'.repeat(5000)}`, hostPath: '/etc' }] },
        source: { mounts: [{ containerPath: '/x', hostPath: `/${'x'.repeat(5000)}` }] },
        mounts: { mounts: many(10_000).map((index) => ({ containerPath: `/m${index}`, hostPath: '/etc' })) },
        env: { envs: many(100_000).map((index) => ({ key: `K${index}`, value: Buffer.from('valuevalue') })) },
        args: { args: ['x'.repeat(2 << 20)] },
        workingDir: { workingDir: `/${'x'.repeat(5000)}` },
      }
      for (const [what, config] of Object.entries(attacks)) refused(await attempt({ config }), REFUSED, what)
    })

    it('A16: names and ids that are paths find and make nothing', async () => {
      const { runtime } = world.cri
      const ids = [
        '../../etc',
        '/etc/passwd',
        '\0',
        'a\nb',
        '-rf',
        '.',
        '__proto__',
        'constructor',
        'x'.repeat(4096),
        'A'.repeat(64),
      ]
      for (const id of ids) {
        await assert.rejects(runtime.containerStatus({ containerId: id }), failsWith(NOT_FOUND), id)
        await assert.rejects(runtime.podSandboxStatus({ podSandboxId: id }), failsWith(NOT_FOUND), id)
        await runtime.removeContainer({ containerId: id })
      }
      const config = await podConfig(world.site, 'names')
      for (const runtimeHandler of ['../runc', '/usr/sbin/runc', '__proto__', 'constructor', '-v', 'runc\0']) {
        await assert.rejects(
          runtime.runPodSandbox({ config, runtimeHandler }),
          failsWith(INVALID_ARGUMENT),
          runtimeHandler,
        )
      }
      for (const cgroupParent of ['../../..', '/a/../../b', 'x.slice', '/a\nb', 'a:b:c']) {
        refused(
          await pod({ linux: { cgroupParent, securityContext: { namespaceOptions: { pid: 1 } } } }),
          [INVALID_ARGUMENT],
          cgroupParent,
        )
      }
      for (const hostname of ['../x', 'a b', 'a\nb', '$(id)', 'x'.repeat(65)])
        refused(await pod({ hostname }), [INVALID_ARGUMENT], hostname)
      for (const logPath of ['../x', '/etc/x', 'a/../../b', 'a\0', 'a/', './a']) {
        refused(await attempt({ config: { logPath } }), [INVALID_ARGUMENT], logPath)
      }
      refused(await pod({ logDirectory: 'relative' }), [INVALID_ARGUMENT], 'log_directory')
    })

    it('A17: mounts over /proc are refused', async () => {
      for (const containerPath of [
        '/proc',
        '/proc/self',
        '/proc/sys',
        '/dev/../proc',
        '//proc',
        '/proc/.',
        '/',
        '//',
        '/.',
        'relative',
      ]) {
        const mounts = [{ containerPath, hostPath: canary.dir }]
        refused(await attempt({ config: { mounts } }), [INVALID_ARGUMENT], containerPath)
      }
    })

    it('A20: odd environment entries are refused or kept exactly', async () => {
      for (const key of ['', 'A=B', 'A\0']) {
        refused(await attempt({ config: { envs: [{ key, value: Buffer.from('x') }] } }), [INVALID_ARGUMENT], key)
      }
      refused(
        await attempt({ config: { envs: [{ key: 'A', value: Buffer.from([65, 0, 66]) }] } }),
        [INVALID_ARGUMENT],
        'NUL',
      )
      refused(
        await attempt({ config: { envs: [{ key: 'A', value: Buffer.from([255, 254]) }] } }),
        [INVALID_ARGUMENT],
        'bytes',
      )
      const value = ' =ä\n"\\$(x)\u{1f997} '
      const odd = await image([], { Env: ['FROM_IMAGE=image', 'PATH=/bin'] })
      const envs = [
        { key: 'ODD', value: Buffer.from(value) },
        { key: 'FROM_IMAGE', value: Buffer.from('request') },
      ]
      const { said } = await attempt({
        image: odd,
        config: { envs },
        script: 'printf %s "$ODD" | od -An -tx1 | tr -d " \\n"; echo; echo $FROM_IMAGE',
      })
      assert.equal(said, `${Buffer.from(value).toString('hex')}\nrequest`)
    })

    it('B5: a working directory in the /proc of a process is refused; nothing else is open inside', async () => {
      for (const workingDir of ['/proc/self/fd/7', '/a/../proc/self/cwd', '/proc/1/root', '//proc/thread-self/fd/8']) {
        refused(await attempt({ config: { workingDir } }), [INVALID_ARGUMENT], workingDir)
        refused(await attempt({ image: await image([], { WorkingDir: workingDir }) }), REFUSED, workingDir)
      }
      const { said } = await attempt({ script: 'exec ls /proc/self/fd' })
      // The last is the directory that is being listed.
      assert.equal(said, '0\n1\n2\n3')
    })

    it('B10: pod names with paths in them are names', async () => {
      const metadata = { name: '../../canary', uid: '../../../canary', namespace: '..', attempt: 0 }
      const { error } = await pod({ metadata })
      assert.ok(error === undefined || REFUSED.includes(error.code), `${error}`)
    })

    it('B14: a local file as an image is never opened', async () => {
      for (const name of [
        canary.dir,
        join(canary.dir, 'passwd'),
        `file://${canary.dir}`,
        `oci:${canary.dir}`,
        './canary',
      ]) {
        refused(await attempt({ image: name }), [...REFUSED, NOT_FOUND], name)
      }
    })

    it('B8: a source behind a link that is turned round in between stays what it was, or fails', async () => {
      const link = world.site.path('turning')
      const good = world.site.path('good')
      mkdirSync(good)
      writeFileSync(join(good, 'which'), 'good')
      symlinkSync(good, link)
      const flip = setInterval(() => {
        rmSync(link, { force: true })
        symlinkSync(readTarget() === good ? canary.dir : good, link)
      }, 1)
      let target = good
      const readTarget = () => {
        const was = target
        target = target === good ? canary.dir : good
        return was
      }
      for (let round = 0; round < 10; round++) {
        const mounts = [{ containerPath: '/x', hostPath: link, readonly: true }]
        const { said, error } = await attempt({ config: { mounts }, script: 'ls /x' })
        assert.ok(error !== undefined || said === 'which' || said === 'inner\npasswd', said)
      }
      clearInterval(flip)
      rmSync(link, { force: true })
      rmSync(good, { recursive: true })
    })

    it('B11: a log file that is a link, a pipe or a directory is never written through', async () => {
      const traps: Record<string, (path: string) => void> = {
        link: (path) => symlinkSync(join(canary.dir, 'passwd'), path),
        dangling: (path) => symlinkSync(join(canary.dir, 'new'), path),
        fifo: (path) => execFileSync('mkfifo', [path]),
        directory: (path) => mkdirSync(path),
      }
      for (const [what, set] of Object.entries(traps)) {
        const sandbox = await podConfig(world.site, `log-${what}`)
        const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
        const config = containerConfig('main', world.image, ['echo', 'written'], { logPath: 'main/0.log' })
        mkdirSync(join(sandbox.logDirectory, 'main'))
        set(join(sandbox.logDirectory, 'main/0.log'))
        await assert.rejects(createContainer(world.cri, podSandboxId, sandbox, config), CriError, what)
        await removePod(world.cri, podSandboxId)
        canary.assertUnharmed()
      }
    })

    it('B13: removal empties nothing that is mounted, or linked, in a container’s directory', async () => {
      const sandbox = await podConfig(world.site, 'leaked')
      const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
      const containerId = await createContainer(
        world.cri,
        podSandboxId,
        sandbox,
        containerConfig('main', world.image, ['true']),
      )
      const dir = world.site.path('state', 'containers', containerId)
      mkdirSync(join(dir, 'leaked'))
      execFileSync('mount', ['--bind', canary.dir, join(dir, 'leaked')])
      symlinkSync(canary.dir, join(dir, 'linked'))
      await removePod(world.cri, podSandboxId)
      assert.equal(existsSync(dir), false)
    })
  })

  describe('image', () => {
    it('A6: account files that are huge, or no files, are refused at once', async () => {
      const files: Record<string, LayerEntry> = {
        huge: { path: 'etc/passwd', content: Buffer.alloc(3 << 20, 'x') },
        fifo: { path: 'etc/passwd', node: 'fifo' },
        zero: { path: 'etc/passwd', node: 'character-device', major: 1, minor: 5 },
        group: { path: 'etc/group', node: 'fifo' },
        directory: { path: 'etc/passwd/' },
        loop: { path: 'etc/passwd', symlinkTo: 'passwd' },
      }
      for (const [what, file] of Object.entries(files)) {
        const reference = await image([file], { User: 'app' })
        const began = performance.now()
        refused(await attempt({ image: reference }), [FAILED_PRECONDITION], what)
        assert.ok(performance.now() - began < 5000, what)
      }
    })

    it('A7: users that are no numbers and no names are refused', async () => {
      const users = [
        '-1',
        '2147483648',
        '4294967295',
        '4294967296',
        '18446744073709551616',
        '0x0',
        '0b0',
        '1e3',
        ' 0',
        '0 ',
        '+0',
        '１',
        '1000abc',
        ':0',
        '0:',
        'a:b:c',
        'x'.repeat(1 << 20),
      ]
      const passwd: LayerEntry = {
        path: 'etc/passwd',
        content: ['4294967296:x:0:0::/:/bin/sh', 'root:x:0:0::/:/bin/sh', ''].join('\n'),
      }
      for (const User of users)
        refused(await attempt({ image: await image([passwd], { User }) }), REFUSED, User.slice(0, 30))
      const { said } = await attempt({ image: await image([passwd], { User: '007' }), script: 'id -u' })
      assert.equal(said, '7')
    })

    it('A15: labels stay labels', async () => {
      const Labels = {
        'containerd.io/restart.loguri': 'binary:///bin/sh',
        'io.kubernetes.cri.container-type': 'sandbox',
        'cdi.k8s.io/x': 'v.com/c=d',
        'org.systemd.property.X': '1',
        'io.cricket.sandbox-id': 'evil',
      }
      const { spec, error } = await attempt({ image: await image([], { Labels }) })
      assert.equal(error, undefined)
      assert.equal(JSON.stringify(spec).includes('binary:///'), false)
      assert.equal(JSON.stringify(spec.annotations).includes('evil'), false)
      assert.equal(spec.annotations['io.kubernetes.cri.container-type'], 'container')
    })

    it('A17, B2: volumes where the runtime mounts, or that leave the image, are refused', async () => {
      const link: LayerEntry = { path: 'link', symlinkTo: '../../../../../../../../etc' }
      for (const path of [
        '/proc',
        '/proc/self',
        '//proc',
        '/proc/.',
        '/sys',
        '/dev/../proc',
        '/dev',
        '/',
        '.',
        '/../../../../etc',
        '/a/..',
      ]) {
        refused(await attempt({ image: await image([], { Volumes: { [path]: {} } }) }), [FAILED_PRECONDITION], path)
      }
      const many = Object.fromEntries(Array.from({ length: 1000 }, (_, index) => [`/v${index}`, {}]))
      refused(await attempt({ image: await image([], { Volumes: many }) }), [FAILED_PRECONDITION], 'many')
      const absolute: LayerEntry = { path: 'absolute', symlinkTo: canary.dir }
      const { error } = await attempt({
        image: await image([link, absolute], { Volumes: { '/link/new': {}, '/absolute/x': {} } }),
      })
      if (error) assert.ok(REFUSED.includes(error.code))
      assert.equal(existsSync('/etc/new'), false)
    })

    it('B1: an /etc that leads to the host changes nothing there', async () => {
      const etcs: LayerEntry[] = [
        { path: 'etc', symlinkTo: canary.dir },
        { path: 'etc', symlinkTo: `../../../../../../../..${canary.dir}` },
        { path: 'etc', content: 'a file' },
        { path: 'etc', node: 'fifo' },
        { path: 'etc', symlinkTo: 'etc' },
      ]
      for (const etc of etcs) {
        await attempt({
          image: await image([etc]),
          config: security({ runAsUser: { value: 4321n } }),
        })
        canary.assertUnharmed()
      }
    })

    it('B3: a passwd that leads to the host is not read', async () => {
      for (const symlinkTo of [join(canary.dir, 'passwd'), `../../../../../../../..${canary.dir}/passwd`]) {
        const reference = await image([{ path: 'etc/passwd', symlinkTo }])
        const { said } = await attempt({ image: reference, script: 'cat /etc/passwd' })
        assert.ok(!said.includes(canary.secret))
        refused(await attempt({ image: reference, config: security({ runAsUsername: 'root' }) }), REFUSED, symlinkTo)
      }
    })

    it('B4: a working directory behind a link is made in the image', async () => {
      const link = { path: 'link', symlinkTo: `../../../../../../../..${canary.dir}` }
      for (const WorkingDir of ['/link/new/dir', '/link/../link/new', '/link/inner/..']) {
        const { said } = await attempt({ image: await image([link], { WorkingDir }), script: 'pwd; ls' })
        assert.ok(!said.includes('passwd'))
        canary.assertUnharmed()
      }
    })

    it('B6: a program that is /proc/self/exe does not reach the runtime', async () => {
      const reference = await image([{ path: 'evil', content: '#!/proc/self/exe\n', mode: 0o755 }], {
        Entrypoint: ['/evil'],
      })
      await attempt({ image: reference, config: { command: ['/evil'] } })
      await attempt({ script: 'for p in /proc/[0-9]*; do echo x > $p/exe; done; true' })
    })

    it('B7: a /dev, /proc or /sys that is no directory is refused', async () => {
      for (const path of ['dev', 'proc', 'sys']) {
        for (const symlinkTo of [canary.dir, `../../../../../../../..${canary.dir}`, 'etc', path]) {
          refused(
            await attempt({ image: await image([{ path, symlinkTo }]) }),
            [FAILED_PRECONDITION],
            `${path} ${symlinkTo}`,
          )
          canary.assertUnharmed()
        }
        refused(await attempt({ image: await image([{ path, content: 'file' }]) }), [FAILED_PRECONDITION], path)
      }
    })

    it('B7: what an image has in /dev is not what the container gets', async () => {
      const entries: LayerEntry[] = [
        { path: 'dev/null', symlinkTo: '/proc/sysrq-trigger' },
        { path: 'dev/pts', symlinkTo: canary.dir },
        { path: 'dev/console', symlinkTo: join(canary.dir, 'new') },
      ]
      const { error, said } = await attempt({
        image: await image(entries),
        config: { tty: true },
        script: 'ls -l /dev/null',
      })
      assert.equal(error, undefined)
      assert.match(said, /^crw-rw-rw-/)
    })

    it('B7: a volume that another container keeps turning round leads nowhere', async () => {
      const shared = world.site.path('shared')
      mkdirSync(shared)
      const sandbox = await podConfig(world.site, 'flipper')
      const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
      const script = `while :; do mkdir /v/d 2>/dev/null; rm -rf /v/d; ln -s ${canary.dir} /v/d; rm /v/d; ln -s /../../..${canary.dir} /v/d; rm /v/d; done`
      const mounts = [{ containerPath: '/v', hostPath: shared }]
      const flipper = await createContainer(
        world.cri,
        podSandboxId,
        sandbox,
        containerConfig('flipper', world.image, ['sh', '-c', script], { mounts }),
      )
      await world.cri.runtime.startContainer({ containerId: flipper })
      for (let round = 0; round < 10; round++) {
        const inner = [...mounts, { containerPath: '/v/d/made', hostPath: world.site.logDir }]
        await attempt({ config: { mounts: inner } })
        canary.assertUnharmed()
      }
      await removePod(world.cri, podSandboxId)
      rmSync(shared, { recursive: true })
    })
  })
})
