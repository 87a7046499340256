/** As many containers that have ended as a careless node may have, by records as the daemon has written them, and how the lists of them are answered. */

import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import {
  ContainerConfig,
  ListContainersRequest,
  ListContainersResponse,
  RuntimeServiceService,
  StreamContainersResponse,
} from '../proto/generated/api.ts'
import { startProbe } from './bench/latency-probe.ts'
import { useWorld } from './harness.ts'
import { containerConfig, podConfig, startPod, untilExited } from './pods.ts'

const MAX_MESSAGE_BYTES = 16 * 1024 * 1024
/** Generous: what the figures are is told by a diagnostic, and this machine may do much else. */
const MOST_MS = 5_000

interface Written {
  readonly config: string
  readonly status: string
}

/** A record file: what holds for all of its text, and the text. */
const wrapped = (record: string): string => {
  const sha256 = createHash('sha256').update(record).digest('hex')
  return `{"bytes":${Buffer.byteLength(record)},"sha256":"${sha256}","record":${record}}\n`
}

const textIn = (file: string): string =>
  file.slice(file.indexOf('"record":') + '"record":'.length, file.lastIndexOf('}'))

/** The same container under another id and name. */
async function copyOf({ config, status }: Written, id: string, dir: string, n: number): Promise<void> {
  const record = JSON.parse(textIn(config))
  const own = ContainerConfig.decode(Buffer.from(record.config, 'base64'))
  const named = ContainerConfig.fromPartial({ ...own, metadata: { name: `old-${n}`, attempt: 0 } })
  const copy = {
    ...record,
    id,
    key: `${record.sandboxId}/old-${n}/0`,
    config: Buffer.from(ContainerConfig.encode(named).finish()).toString('base64'),
    cgroupsPath: record.cgroupsPath.replace(record.id, id),
  }
  await mkdir(join(dir, id), { mode: 0o700 })
  await writeFile(join(dir, id, 'config.json'), wrapped(JSON.stringify(copy, null, 2)), { mode: 0o600 })
  await writeFile(join(dir, id, 'status.json'), status, { mode: 0o600 })
}

const slowest = (times: readonly number[]): string =>
  `${times.length} calls of Version, slowest ${Math.max(...times).toFixed(0)} ms`

export function testManyContainers(count: number): void {
  describe(`${count} containers that have ended`, () => {
    const world = useWorld()

    /** Does the work while another thread asks for the version, and says how long that took at most. */
    const watched = async <T>(t: TestContext, what: string, work: () => Promise<T>): Promise<T> => {
      const probe = startProbe(world.runtime.program.socket)
      const begin = performance.now()
      const result = await work()
      const tookMs = performance.now() - begin
      const times = await probe.stop()
      t.diagnostic(`${what}: ${tookMs.toFixed(0)} ms; ${slowest(times)}`)
      assert.ok(times.length > 0 && Math.max(...times) < MOST_MS)
      return result
    }

    it('are listed in messages that a kubelet takes, while others are answered', { timeout: 600_000 }, async (t) => {
      const { site, runtime, image } = world
      const pod = await podConfig(site, 'many')
      const { sandboxId, containerId } = await startPod(world.cri, pod, containerConfig('main', image, ['true']))
      await untilExited(world.cri, containerId)
      await runtime.stop()
      const dir = site.path('root', 'containers')
      const read = (name: string) => readFile(join(dir, containerId, name), 'utf8')
      const written = { config: await read('config.json'), status: await read('status.json') }
      const ids = Array.from({ length: count - 1 }, () => randomBytes(32).toString('hex'))
      for (const [n, id] of ids.entries()) await copyOf(written, id, dir, n)
      const begin = performance.now()
      await runtime.start()
      t.diagnostic(`the daemon answers ${(performance.now() - begin).toFixed(0)} ms after its start`)
      const { cri } = world
      const request = Buffer.from(ListContainersRequest.encode({ filter: undefined }).finish())
      for (const turn of ['first', 'second']) {
        const { containers } = await watched(t, `${turn} ListContainers`, () => cri.runtime.listContainers({}))
        assert.deepEqual(new Set(containers.map(({ id }) => id)), new Set([containerId, ...ids]))
        const { length } = ListContainersResponse.encode({ containers }).finish()
        t.diagnostic(`${length} bytes`)
        assert.ok(length < MAX_MESSAGE_BYTES)
        const { path } = RuntimeServiceService.streamContainers
        const chunks = await watched(t, `${turn} StreamContainers`, () => cri.stream(path, request))
        const streamed = chunks.flatMap((bytes) => StreamContainersResponse.decode(bytes).containers)
        assert.deepEqual(streamed, containers)
        assert.ok(chunks.every((chunk) => chunk.length < MAX_MESSAGE_BYTES / 8))
      }
      await watched(t, 'RemovePodSandbox with all of them', () => removeAll(sandboxId))
      assert.deepEqual((await cri.runtime.listContainers({})).containers, [])
      assert.deepEqual(await readdir(dir), [])
      await world.assertNothingLeft()
    })

    const removeAll = async (podSandboxId: string): Promise<void> => {
      await world.cri.runtime.stopPodSandbox({ podSandboxId }, { timeoutMs: 300_000 })
      await world.cri.runtime.removePodSandbox({ podSandboxId }, { timeoutMs: 300_000 })
    }
  })
}
