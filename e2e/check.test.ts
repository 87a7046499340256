/** `cricket check` finds damage that was done on purpose and repairs it layer by layer; `cricket wipe` removes all, when a person asks. */

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { appendFile, mkdir, readdir, readFile, rm, stat, truncate, unlink, utimes, writeFile } from 'node:fs/promises'
import { after, before, describe, it } from 'node:test'
import { execa } from 'execa'
import { ContainerState, NamespaceMode } from '#proto/generated/api.ts'
import { CountingProxy } from './counting-proxy.ts'
import { CRICKET } from './cricket.ts'
import { useWorld } from './harness.ts'
import { imageSpec } from './image-spec.ts'
import { makeImage, makeLayer, type OciImage, pushImage } from './oci-image.ts'
import { containerConfig, containerStatus, podConfig, removeAllPods, startPod } from './pods.ts'

const MIB = 2 ** 20

interface Report {
  findings: { kind: string; id: string; path: string; why: string; remedy: string }[]
  repaired: boolean
  pullAgain: string[]
  withoutManifest: number
}

describe('a storage that was damaged', () => {
  const world = useWorld()
  let proxy: CountingProxy
  let reference = ''
  let image: OciImage
  before(async () => {
    const noise = [0, 1, 2].map((n) => makeLayer([{ path: `noise-${n}`, content: randomBytes(MIB) }]))
    image = makeImage([...world.busybox.layers, ...(await Promise.all(noise))])
    await pushImage(world.registry.url, 'noise', 'latest', image)
    proxy = await CountingProxy.start(world.registry.host, { bytesPerMs: 100_000 })
    reference = `${proxy.host}/noise:latest`
    await world.cri.images.pullImage({ image: imageSpec(reference) })
  })
  after(() => proxy[Symbol.asyncDispose]())

  const cricket = (...args: string[]) =>
    execa(CRICKET, [...args, '--config', world.site.path('config.yaml')], { reject: false, stdin: 'ignore' })
  const check = async (...args: string[]): Promise<Report & { code: number | undefined }> => {
    const { stdout, stderr, exitCode } = await cricket('check', '--json', ...args)
    assert.equal(stderr, '')
    return { ...(JSON.parse(stdout) as Report), code: exitCode }
  }
  const layerDir = (n: number): string =>
    world.site.path('root/storage/layers', (image.layers[n]?.diffId ?? '').replace(':', '-'))
  const isThere = async (name: string): Promise<boolean> =>
    (await world.cri.images.imageStatus({ image: imageSpec(name) })).image !== undefined

  /** The victim is the third layer, of noise; which file of it, or what beside it. */
  const damages: Record<string, { harm: () => Promise<unknown>; says: RegExp }> = {
    'a deleted file': { harm: () => unlink(`${layerDir(2)}/diff/noise-0`), says: /"noise-0" is missing/ },
    'a changed file': {
      harm: async () => {
        const path = `${layerDir(2)}/diff/noise-0`
        const { atime, mtime } = await stat(path)
        const content = await readFile(path)
        content[MIB / 2] = (content[MIB / 2] ?? 0) ^ 1
        await writeFile(path, content)
        await utimes(path, atime, mtime)
      },
      says: /"noise-0" has other content/,
    },
    'a truncated record': { harm: () => truncate(`${layerDir(2)}/record.json`, 30), says: /record is/ },
    'a missing layer directory': { harm: () => rm(layerDir(2), { recursive: true }), says: /stands on layer/ },
  }

  for (const [what, { harm, says }] of Object.entries(damages))
    for (const how of what.startsWith('a missing') ? ['beside the daemon', 'without a daemon'] : ['beside the daemon'])
      it(`by ${what} is found and repaired ${how}, and no other layer is touched`, async () => {
        await world.cri.images.pullImage({ image: imageSpec(reference) })
        assert.deepEqual((await check()).findings, [], 'nothing is wrong before')
        const others = async () =>
          Promise.all([0, 1, 3, 4].map(async (n) => (await stat(layerDir(n), { bigint: true })).ino))
        const before = await others()
        if (how === 'without a daemon') await world.runtime.stop()
        await harm()
        const found = await check()
        assert.equal(found.code, 3)
        assert.equal(found.findings.length, 1, JSON.stringify(found.findings))
        assert.match(found.findings[0]?.why ?? '', says)
        const repaired = await check('--repair')
        assert.deepEqual([repaired.code, repaired.repaired], [0, true])
        assert.deepEqual(repaired.pullAgain, [reference])
        assert.deepEqual(
          (await check()).findings.filter(({ kind }) => kind !== 'image'),
          [],
        )
        if (how === 'without a daemon') await world.runtime.start()
        assert.deepEqual([await isThere(reference), await isThere(world.image)], [false, true])
        assert.match(
          (await world.cri.runtime.status({ verbose: true })).info.healing ?? '',
          /"incompleteImages":\["[^"]+noise/,
        )
        const fetched = proxy.bytes
        await world.cri.images.pullImage({ image: imageSpec(reference) })
        assert.ok(proxy.bytes - fetched < 1.3 * MIB, `fetched ${proxy.bytes - fetched} bytes for a layer of one MiB`)
        assert.deepEqual(await others(), before)
        assert.deepEqual((await check()).findings, [])
      })

  it('under a running container leaves that alone', async () => {
    const host = {
      namespaceOptions: { network: NamespaceMode.NODE, pid: NamespaceMode.CONTAINER, ipc: NamespaceMode.POD },
    }
    const linux = { cgroupParent: world.site.cgroupParent, securityContext: host }
    const sandbox = await podConfig(world.site, 'standing', { linux })
    const pod = await startPod(
      world.cri,
      sandbox,
      containerConfig('main', reference, ['sleep', '1000'], { linux: { securityContext: host } }),
    )
    await unlink(`${layerDir(2)}/diff/noise-0`)
    await check('--repair')
    assert.equal((await containerStatus(world.cri, pod.containerId)).state, ContainerState.CONTAINER_RUNNING)
    const { stdout } = await world.cri.runtime.execSync({
      containerId: pod.containerId,
      cmd: ['wc', '-c', '/noise-1'],
      timeout: 20n,
    })
    assert.match(Buffer.from(stdout).toString(), new RegExp(`^${MIB} `))
    const refused = await cricket('wipe', '--yes')
    assert.equal(refused.exitCode, 1)
    assert.match(refused.stderr, /A daemon works with/)
    await world.runtime.kill()
    const tooEarly = await cricket('wipe', '--yes')
    assert.match(tooEarly.stderr, /Cannot wipe while pods live: container/)
    await world.runtime.start()
    await removeAllPods(world.cri)
    await world.cri.images.pullImage({ image: imageSpec(reference) })
  })

  it('finds what no record owns, mounts and all, and sweeps it beside the daemon', async () => {
    const id = 'f'.repeat(64)
    await mkdir(world.site.path('state/containers', id, 'rootfs'), { recursive: true })
    await execa('/bin/mount', ['-t', 'tmpfs', 'left', world.site.path('state/containers', id, 'rootfs')])
    await mkdir(world.site.path('state/sandboxes', id))
    const { findings } = await check('--repair')
    assert.deepEqual(
      findings.map(({ kind, id: name, remedy }) => [kind, name, remedy]),
      [
        ['stray', id, 'sweep'],
        ['stray', id, 'sweep'],
      ],
    )
    assert.equal(existsSync(world.site.path('state/containers', id)), false)
    assert.deepEqual((await check()).findings, [])
    assert.match((await world.cri.runtime.status({ verbose: true })).info.healing ?? '', /"sweptDirectories":2/)
  })

  it('has records of pods written again from memory', async () => {
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: await podConfig(world.site, 'known') })
    const path = world.site.path('root/sandboxes', podSandboxId, 'config.json')
    const whole = await readFile(path, 'utf8')
    await appendFile(path, 'x')
    assert.deepEqual(
      (await check('--repair')).findings.map(({ kind, why }) => [kind, why]),
      [['record', 'is cut short']],
    )
    assert.equal(await readFile(path, 'utf8'), whole)
    await removeAllPods(world.cri)
  })

  it('is wiped only when somebody says so, who is told first what goes', async () => {
    await world.runtime.stop()
    const asked = await cricket('wipe')
    assert.equal(asked.exitCode, 1)
    assert.match(asked.stdout, /layers: 5 layers of images/)
    assert.match(asked.stderr, /Nothing was removed/)
    assert.equal((await readdir(world.site.path('root/storage/layers'))).length, 5)
    const done = await cricket('wipe', '--yes')
    assert.deepEqual([done.exitCode, done.stderr], [0, ''])
    assert.match(done.stdout, /layers: 5 layers of images[\s\S]*Removed/)
    assert.equal(existsSync(world.site.path('root/storage')), false)
    assert.equal((await cricket('wipe', '--yes')).stdout, 'There is nothing to wipe.')
    await world.runtime.start()
    assert.deepEqual((await world.cri.images.listImages({})).images, [])
    await world.cri.images.pullImage({ image: imageSpec(world.image) })
  })
})
