/** What a client, a registry or an operator can get wrong: a clear error with the right code, nothing left behind. */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { gzipSync } from 'node:zlib'
import { status } from '@grpc/grpc-js'
import { stringify } from 'yaml'
import { ContainerState, NamespaceMode, PodSandboxConfig } from '#proto/generated/api.ts'
import { CriError, failsWith } from './cri-client.ts'
import { cricketProgram, writeCricketConfig } from './cricket.ts'
import { useWorld } from './harness.ts'
import { imageSpec } from './image-spec.ts'
import { digestOf, makeImage, makeLayer, pushImage } from './oci-image.ts'
import {
  containerConfig,
  containerStatus,
  createContainer,
  podConfig,
  removeAllPods,
  removePod,
  startPod,
  until,
  untilExited,
} from './pods.ts'
import { freePort } from './registry.ts'
import { Runtime, runToEnd } from './runtime.ts'
import { cniConfig } from './site.ts'

const IDLE = ['sleep', '1000']
const NO_ID = 'f'.repeat(64)

describe('a pull', () => {
  const world = useWorld({ pulled: false })
  const pull = (image: string) => world.cri.images.pullImage({ image: imageSpec(image) })
  const noImages = async () => assert.deepEqual((await world.cri.images.listImages({})).images, [])

  it('of an image or tag that the registry does not know is NOT_FOUND', async () => {
    await assert.rejects(pull(`${world.registry.host}/nobody:1`), failsWith(status.NOT_FOUND, /nobody/))
    await assert.rejects(pull(`${world.registry.host}/busybox:nothing`), failsWith(status.NOT_FOUND, /nothing/))
    const digest = `sha256:${'0'.repeat(64)}`
    await assert.rejects(pull(`${world.registry.host}/busybox@${digest}`), failsWith(status.NOT_FOUND))
    await noImages()
  })

  it('of a reference that is none is INVALID_ARGUMENT', async () => {
    for (const name of [
      '',
      'UPPERCASE:1',
      'a b',
      `${world.registry.host}/x@sha256:short`,
      `${world.registry.host}/../x`,
    ]) {
      await assert.rejects(pull(name), failsWith(status.INVALID_ARGUMENT), `'${name}'`)
    }
    await noImages()
  })

  it('from a registry that nobody answers for is UNKNOWN with the prefix RegistryUnavailable', async () => {
    const image = `127.0.0.1:${await freePort()}/busybox:1`
    await assert.rejects(pull(image), failsWith(status.UNKNOWN, /^RegistryUnavailable: /))
    await noImages()
  })

  it('of a layer whose bytes are not those of its digest is FAILED_PRECONDITION, and works once they are', async () => {
    const blob = world.registry.blobPath(world.busybox.layers[1]?.digest ?? '')
    const right = await readFile(blob)
    const wrong = Buffer.from(right)
    wrong[wrong.length - 1] = (wrong[wrong.length - 1] ?? 0) ^ 255
    await writeFile(blob, wrong)
    await assert.rejects(pull(world.image), failsWith(status.FAILED_PRECONDITION, /sha256:/))
    await noImages()
    await writeFile(blob, right)
    await pull(world.image)
    await world.cri.images.removeImage({ image: imageSpec(world.image) })
  })

  it('of a manifest whose bytes are not those of its digest is FAILED_PRECONDITION', async () => {
    const { digest, bytes } = world.busybox.manifest
    const blob = world.registry.blobPath(digest)
    await writeFile(blob, bytes.toString().replace('schemaVersion":2', 'schemaVersion": 2'))
    await assert.rejects(pull(`${world.registry.host}/busybox@${digest}`), failsWith(status.FAILED_PRECONDITION))
    await writeFile(blob, bytes)
    await noImages()
  })

  it('of a layer that is no archive, is cut, or is not what the config says is FAILED_PRECONDITION', async () => {
    const good = await makeLayer([{ path: 'file', content: 'content' }])
    const layerOf = (bytes: Buffer, diffId = good.diffId) => ({ ...good, bytes, digest: digestOf(bytes), diffId })
    const noise = Buffer.alloc(2048, 'not a tar archive ')
    const broken = {
      'not-gzip': layerOf(Buffer.from('this is no gzip stream')),
      'cut-gzip': layerOf(good.bytes.subarray(0, good.bytes.length - 12)),
      'not-tar': layerOf(gzipSync(noise), digestOf(noise)),
      'other-diff-id': layerOf(good.bytes, digestOf(Buffer.from('other'))),
    }
    for (const [tag, layer] of Object.entries(broken)) {
      await pushImage(world.registry.url, 'broken', tag, makeImage([layer]))
      await assert.rejects(pull(`${world.registry.host}/broken:${tag}`), failsWith(status.FAILED_PRECONDITION), tag)
    }
    await noImages()
  })

  it('of an image for other machines only is FAILED_PRECONDITION', async () => {
    const image = makeImage([await makeLayer([{ path: 'file', content: 'x' }])])
    const index = image.index.bytes.toString().replace(/"architecture":"\w+"/, '"architecture":"s390x"')
    const foreign = { ...image, index: { ...image.index, bytes: Buffer.from(index) } }
    await pushImage(world.registry.url, 'foreign', '1', foreign)
    await assert.rejects(
      pull(`${world.registry.host}/foreign:1`),
      failsWith(status.FAILED_PRECONDITION, /s390x|platform/),
    )
    await noImages()
  })
})

describe('a request', () => {
  const world = useWorld()

  it('for ids that nobody has is NOT_FOUND', async () => {
    const { runtime } = world.cri
    const sandboxConfig = await podConfig(world.site, 'unknown')
    const config = containerConfig('main', world.image, IDLE)
    const calls = {
      podSandboxStatus: runtime.podSandboxStatus({ podSandboxId: NO_ID }),
      containerStatus: runtime.containerStatus({ containerId: NO_ID }),
      createContainer: runtime.createContainer({ podSandboxId: NO_ID, config, sandboxConfig }),
      startContainer: runtime.startContainer({ containerId: NO_ID }),
      execSync: runtime.execSync({ containerId: NO_ID, cmd: ['true'] }),
    }
    for (const [name, call] of Object.entries(calls)) await assert.rejects(call, failsWith(status.NOT_FOUND), name)
  })

  it('to stop or remove what nobody has succeeds', async () => {
    await world.cri.runtime.stopContainer({ containerId: NO_ID })
    await world.cri.runtime.removeContainer({ containerId: NO_ID })
    await world.cri.runtime.stopPodSandbox({ podSandboxId: NO_ID })
    await world.cri.runtime.removePodSandbox({ podSandboxId: NO_ID })
  })

  it('without what it needs is INVALID_ARGUMENT', async () => {
    const { runtime } = world.cri
    const config = await podConfig(world.site, 'incomplete')
    const without = PodSandboxConfig.fromPartial({ ...config, metadata: { name: '', uid: '', namespace: '' } })
    await assert.rejects(runtime.runPodSandbox({}), failsWith(status.INVALID_ARGUMENT))
    await assert.rejects(runtime.runPodSandbox({ config: without }), failsWith(status.INVALID_ARGUMENT))
    const { podSandboxId } = await runtime.runPodSandbox({ config })
    await assert.rejects(runtime.createContainer({ podSandboxId }), failsWith(status.INVALID_ARGUMENT))
    const nameless = containerConfig('', world.image, IDLE)
    await assert.rejects(createContainer(world.cri, podSandboxId, config, nameless), failsWith(status.INVALID_ARGUMENT))
    const outside = containerConfig('main', world.image, IDLE, { logPath: '../../outside.log' })
    await assert.rejects(
      runtime.createContainer({ podSandboxId, config: outside, sandboxConfig: config }),
      failsWith(status.INVALID_ARGUMENT),
    )
    await removePod(world.cri, podSandboxId)
    await world.assertNothingLeft()
  })

  it('for a runtime handler that is not configured is refused and names it', async () => {
    const config = await podConfig(world.site, 'handler')
    const call = world.cri.runtime.runPodSandbox({ config, runtimeHandler: 'kata' })
    await assert.rejects(call, failsWithOneOf([status.INVALID_ARGUMENT, status.NOT_FOUND], /kata/))
    assert.deepEqual((await world.cri.runtime.listPodSandbox({})).items, [])
    await world.assertNothingLeft()
  })

  it('for a container of an image that is not there is NOT_FOUND', async () => {
    const sandbox = await podConfig(world.site, 'no-image')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    const config = containerConfig('main', `${world.registry.host}/never-pulled:1`, IDLE)
    const call = createContainer(world.cri, podSandboxId, sandbox, config)
    await assert.rejects(call, failsWith(status.NOT_FOUND, /never-pulled/))
    assert.deepEqual((await world.cri.runtime.listContainers({})).containers, [])
    await removePod(world.cri, podSandboxId)
    await world.assertNothingLeft()
  })

  it('for a command that does not exist fails, names it, and the pod goes on', async () => {
    const sandbox = await podConfig(world.site, 'no-command')
    const config = containerConfig('main', world.image, ['/no/such/command'])
    await assert.rejects(startPod(world.cri, sandbox, config), (error) => {
      assert.ok(
        error instanceof CriError && error.code !== status.INTERNAL && error.code !== status.NOT_FOUND,
        `${error}`,
      )
      assert.match(error.details, /no\/such\/command/)
      return true
    })
    // Either there is no container, or one that tells why it did not start.
    const { containers } = await world.cri.runtime.listContainers({})
    for (const { id } of containers) {
      const failed = await containerStatus(world.cri, id)
      assert.equal(failed.state, ContainerState.CONTAINER_EXITED)
      assert.equal(failed.exitCode, 128)
    }
    const [pod] = (await world.cri.runtime.listPodSandbox({})).items
    assert.ok(pod)
    const right = containerConfig('main', world.image, ['true'], { metadata: { name: 'main', attempt: 1 } })
    const containerId = await createContainer(world.cri, pod.id, sandbox, right)
    await world.cri.runtime.startContainer({ containerId })
    assert.equal((await untilExited(world.cri, containerId)).exitCode, 0)
    await removePod(world.cri, pod.id)
    await world.assertNothingLeft()
  })

  it('that comes in the wrong state is FAILED_PRECONDITION', async () => {
    const { runtime } = world.cri
    const sandbox = await podConfig(world.site, 'state')
    const pod = await startPod(world.cri, sandbox, containerConfig('main', world.image, ['true']))
    const { containerId } = pod
    await untilExited(world.cri, containerId)
    await assert.rejects(runtime.startContainer({ containerId }), failsWith(status.FAILED_PRECONDITION))
    await assert.rejects(runtime.execSync({ containerId, cmd: ['true'] }), failsWith(status.FAILED_PRECONDITION))
    await runtime.stopPodSandbox({ podSandboxId: pod.sandboxId })
    const late = createContainer(world.cri, pod.sandboxId, sandbox, containerConfig('late', world.image, IDLE))
    await assert.rejects(late, failsWith(status.FAILED_PRECONDITION))
    await removePod(world.cri, pod.sandboxId)
    await world.assertNothingLeft()
  })

  it('to exec nothing is INVALID_ARGUMENT, to exec what is not there tells so', async () => {
    const sandbox = await podConfig(world.site, 'exec')
    const { containerId, sandboxId } = await startPod(world.cri, sandbox, containerConfig('main', world.image, IDLE))
    await assert.rejects(world.cri.runtime.execSync({ containerId, cmd: [] }), failsWith(status.INVALID_ARGUMENT))
    const missing = await world.cri.runtime
      .execSync({ containerId, cmd: ['/no/such/command'], timeout: 10n })
      .catch((error: unknown) => error)
    if (missing instanceof CriError) assert.match(missing.details, /no\/such\/command/)
    else assert.ok(missing && typeof missing === 'object' && 'exitCode' in missing && missing.exitCode !== 0)
    await removePod(world.cri, sandboxId)
  })
})

describe('a network', () => {
  const world = useWorld()
  const configPath = () => join(world.site.network.configDir, '10-pods.conflist')
  const networkReady = async () => {
    const answer = await world.cri.runtime.status({})
    return answer.status?.conditions.find(({ type }) => type === 'NetworkReady')
  }
  const untilReady = (ready: boolean) =>
    until(`NetworkReady is ${ready}`, 15_000, async () => ((await networkReady())?.status === ready ? true : undefined))

  it('that is not configured is reported, stops pods of its own, and does not stop pods of the host network', async () => {
    await rename(configPath(), world.site.path('saved'))
    await untilReady(false)
    const condition = await networkReady()
    assert.notEqual(condition?.reason, '')
    assert.notEqual(condition?.message, '')
    const config = await podConfig(world.site, 'no-network')
    await assert.rejects(world.cri.runtime.runPodSandbox({ config }), failsWithOneOf(NETWORK_CODES, /CNI|network/i))
    await world.assertNothingLeft()
    const context = { namespaceOptions: { network: NamespaceMode.NODE, pid: NamespaceMode.CONTAINER } }
    const linux = { cgroupParent: world.site.cgroupParent, securityContext: context }
    const host = await world.cri.runtime.runPodSandbox({ config: await podConfig(world.site, 'host', { linux }) })
    await removePod(world.cri, host.podSandboxId)
    await rename(world.site.path('saved'), configPath())
    await untilReady(true)
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config })
    await removePod(world.cri, podSandboxId)
    await world.assertNothingLeft()
  })

  it('whose plugin is missing or fails makes RunPodSandbox fail and undo the plugins before it', async () => {
    const good = await readFile(configPath(), 'utf8')
    const parsed: { plugins: object[] } = JSON.parse(cniConfig(world.site.network))
    const missing = { ...parsed, plugins: [...parsed.plugins, { type: 'no-such-plugin' }] }
    const failing = { ...parsed, plugins: [...parsed.plugins, { type: 'bandwidth', ingressRate: 'nonsense' }] }
    for (const [name, config] of Object.entries({ missing, failing })) {
      await writeFile(configPath(), JSON.stringify(config))
      await until('the configuration is noticed', 15_000, async () => {
        const pod = await podConfig(world.site, name)
        const answer = await world.cri.runtime.runPodSandbox({ config: pod }).catch((error: unknown) => error)
        if (answer instanceof CriError) {
          const codes = name === 'missing' ? NETWORK_CODES : [...NETWORK_CODES, status.INTERNAL]
          assert.ok(codes.includes(answer.code), answer.message)
          assert.match(answer.details, name === 'missing' ? /no-such-plugin/ : /bandwidth/)
          return true
        }
        await removeAllPods(world.cri)
        return undefined
      })
      assert.deepEqual((await world.cri.runtime.listPodSandbox({})).items, [])
      await world.assertNothingLeft()
    }
    await writeFile(configPath(), good)
    await untilReady(true)
  })
})

describe('a second daemon', () => {
  const world = useWorld({ pulled: false })
  const version = () => world.cri.runtime.version({}, { timeoutMs: 5000 })

  it('on the same directories refuses to start, and the first goes on', async () => {
    const { site } = world
    const sections = { listen: site.path('second.sock') }
    const second = { ...cricketProgram(site), logPath: site.path('second.log') }
    const configPath = await secondConfig('second.yaml', sections)
    const ending = await runToEnd({ ...second, command: [...second.command.slice(0, -1), configPath] })
    assert.ok('code' in ending && ending.code !== 0, JSON.stringify(ending))
    assert.notEqual(await readFile(second.logPath, 'utf8'), '')
    await version()
  })

  it('with directories of its own does not take the socket of a living one', async () => {
    const { site } = world
    const configPath = await secondConfig('third.yaml', { root: site.path('root3'), state: site.path('state3') })
    const third = { ...cricketProgram(site, configPath), logPath: site.path('third.log') }
    const ending = await runToEnd(third)
    assert.ok('code' in ending && ending.code !== 0, JSON.stringify(ending))
    assert.match(await readFile(third.logPath, 'utf8'), /cricket\.sock/)
    await version()
  })

  it('replaces the socket file that a dead one left', async () => {
    await world.runtime.kill()
    assert.ok((await stat(world.runtime.program.socket)).isSocket())
    await world.runtime.start()
    await version()
  })

  it('replaces no file that is not a socket, and no socket of another program', async () => {
    const { site } = world
    const ordinary = site.path('ordinary')
    await writeFile(ordinary, 'precious')
    const foreign = site.path('foreign.sock')
    const server = createServer().listen(foreign)
    await once(server, 'listening')
    for (const [name, listen] of Object.entries({ ordinary, foreign })) {
      const own = { root: site.path(`root-${name}`), state: site.path(`state-${name}`), listen }
      const configPath = await secondConfig(`${name}.yaml`, own)
      const logPath = site.path(`${name}.log`)
      const ending = await runToEnd({ ...cricketProgram(site, configPath), logPath })
      assert.ok('code' in ending && ending.code !== 0, `${name}: ${JSON.stringify(ending)}`)
    }
    assert.equal(await readFile(ordinary, 'utf8'), 'precious')
    assert.ok((await stat(foreign)).isSocket())
    server.close()
    await rm(ordinary)
  })

  it('is not needed to find a daemon again whose socket file was taken away (C10)', async () => {
    await rm(world.runtime.program.socket)
    // Who was connected is served all the time.
    await version()
    // A process of its own, as clients of one process share their connections.
    const { command, socket: path } = world.runtime.program
    await until('a new client is served', 10_000, async () => {
      const asked = spawnSync(command[0] ?? '', ['ops', '--listen', path], { encoding: 'utf8' })
      return asked.status === 0 ? true : undefined
    })
    assert.equal((await stat(world.runtime.program.socket)).mode & 0o777, 0o660)
    await version()
  })

  it('with a wrong configuration says file, line and key, and starts nothing', async () => {
    const { site } = world
    const path = site.path('wrong.yaml')
    await writeFile(path, `root: ${site.path('root4')}\nstate: ${site.path('state4')}\nlogLevel: loud\n`)
    const ending = await runToEnd({ ...cricketProgram(site, path), logPath: site.path('wrong.log') })
    assert.ok('code' in ending && ending.code !== 0, JSON.stringify(ending))
    const log = await readFile(site.path('wrong.log'), 'utf8')
    assert.match(log, /wrong\.yaml/)
    assert.match(log, /\b3\b/)
    assert.match(log, /logLevel/)
  })

  /** The first daemon's configuration with these keys replaced, as a file of its own. */
  async function secondConfig(name: string, replace: Record<string, string>): Promise<string> {
    const { site } = world
    await mkdir(site.path('configs'), { recursive: true })
    const path = site.path('configs', name)
    const own = { root: site.path('root'), state: site.path('state'), listen: world.runtime.program.socket }
    const network = { configDir: site.network.configDir, binDirs: site.network.binDirs }
    await writeFile(path, stringify({ ...own, network, ...replace }))
    return path
  }
})

describe('a daemon', () => {
  const world = useWorld({ pulled: false })

  it('does not start on a state directory that it cannot use', async () => {
    const { site } = world
    const file = site.path('a-file')
    await writeFile(file, '')
    const path = await writeCricketConfig(site, {
      sections: { state: join(file, 'state'), listen: site.path('x.sock') },
    })
    const broken = new Runtime({
      ...cricketProgram(site, path),
      logPath: site.path('broken.log'),
      socket: site.path('x.sock'),
    })
    await assert.rejects(broken.start(), /a-file/)
  })
})

/** A pod network that cannot be had now: the caller should come again. */
const NETWORK_CODES = [status.UNAVAILABLE, status.FAILED_PRECONDITION]

function failsWithOneOf(codes: status[], message: RegExp): (error: unknown) => boolean {
  return (error) => {
    if (!(error instanceof CriError)) throw error
    const wanted = codes.map((code) => status[code]).join(' or ')
    assert.ok(codes.includes(error.code), `want ${wanted}, got: ${error.message}`)
    assert.match(error.details, message)
    return true
  }
}
