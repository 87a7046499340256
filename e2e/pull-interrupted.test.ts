/** Pulls that are cut and daemons that are killed in the middle of them: what was received is not fetched again. */

import assert from 'node:assert/strict'
import { randomBytes, randomInt } from 'node:crypto'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { CountingProxy } from './counting-proxy.ts'
import { startCricket } from './cricket.ts'
import { imageSpec } from './image-spec.ts'
import { makeImage, makeLayer, type OciImage, pushImage } from './oci-image.ts'
import { type Registry, startRegistry } from './registry.ts'
import type { Runtime } from './runtime.ts'
import { createSite, removeSite, type Site } from './site.ts'

const MIB = 2 ** 20
const TIMES = 20
/** Layers of this size come over several connections. */
const PARTS_FROM_MIB = 24

suite('a pull that is interrupted twenty times', () => {
  let site: Site
  let registry: Registry
  let runtime: Runtime

  before(async () => {
    site = await createSite()
    registry = await startRegistry(site.dir)
    const image = { severalConnectionsFromMiB: PARTS_FROM_MIB }
    runtime = await startCricket(site, { sections: { image } })
  })
  after(async () => {
    await runtime.stop()
    await registry.stop()
    await removeSite(site)
  })

  const cut = async (proxy: CountingProxy): Promise<void> => proxy.cut()
  const kill = async (proxy: CountingProxy): Promise<void> => {
    // The queues are looked at before the process is gone, and with it they are.
    process.kill(runtime.pid, 'SIGSTOP')
    proxy.cut()
    await runtime.kill()
    await runtime.start()
  }
  const interruptions = [
    { name: 'by cut connections', interrupt: cut, layers: 5, mib: 12 },
    { name: 'by kills of the daemon', interrupt: kill, layers: 5, mib: 12 },
    { name: 'by kills of the daemon while layers come in parts', interrupt: kill, layers: 1, mib: 80 },
  ]
  for (const { name, interrupt, layers, mib } of interruptions) {
    test(`${name} fetches at most a tenth more than the image`, async (t) => {
      const image = await noise(layers, mib * MIB)
      const size = sizeOf(image)
      await pushImage(registry.url, 'noise', name.replaceAll(' ', '-'), image)
      await using proxy = await CountingProxy.start(registry.host, { bytesPerMs: 4_000 })
      const reference = `${proxy.host}/noise:${name.replaceAll(' ', '-')}`
      const points = Array.from({ length: TIMES }, () => randomInt(size)).sort((a, b) => a - b)
      let isDone = false
      const pulling = untilPulled(() => runtime, reference).finally(() => {
        isDone = true
      })
      let met = 0
      for (const point of points) {
        while (proxy.bytes < point && !isDone) await sleep(5)
        if (isDone) break
        await interrupt(proxy)
        met++
      }
      await pulling
      t.diagnostic(`${met} interruptions, fetched ${((100 * proxy.bytes) / size).toFixed(1)} % of ${size} bytes`)
      assert.ok(met >= TIMES / 2, `only ${met} interruptions`)
      assert.ok(proxy.bytes <= 1.1 * size, `fetched ${proxy.bytes} for ${size} bytes`)
    })
  }
})

/** As the kubelet: tries again until it works. */
async function untilPulled(runtime: () => Runtime, reference: string): Promise<void> {
  for (;;) {
    try {
      await runtime().cri.images.pullImage({ image: imageSpec(reference) })
      return
    } catch {
      await sleep(50)
    }
  }
}

async function noise(layers: number, bytes: number): Promise<OciImage> {
  const made = []
  for (let count = 0; count < layers; count++) {
    made.push(await makeLayer([{ path: `noise-${count}`, content: randomBytes(bytes) }]))
  }
  return makeImage(made)
}

const sizeOf = ({ layers, config, manifest, index }: OciImage): number =>
  [...layers, config, manifest, index].reduce((sum, { bytes }) => sum + bytes.length, 0)
