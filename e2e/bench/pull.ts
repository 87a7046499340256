/**
 * `npm run bench -- pull`: pulls from one loopback registry, turn by turn: cricket, Debian's containerd, and skopeo, which
 * only downloads. A gigabyte in ten layers, an image of 4 MB, and three big images at once. Beside the time: the most memory
 * that a daemon held, and how long a small call waited meanwhile.
 */

import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { loadavg } from 'node:os'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import * as tar from 'tar-stream'
import { makePauseImage, startContainerd } from '../containerd.ts'
import { startCricket } from '../cricket.ts'
import { imageSpec } from '../image-spec.ts'
import { digestOf, type Layer, makeImage, type OciImage, pushImage } from '../oci-image.ts'
import { type Registry, startRegistry } from '../registry.ts'
import type { Runtime } from '../runtime.ts'
import { createSite, removeSite, type Site } from '../site.ts'
import { type Figure, renderTable } from './figures.ts'
import { type Felt, watchRuntime } from './watch-runtime.ts'

const MIB = 2 ** 20
const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip'

interface Contestant {
  readonly name: string
  readonly site: Site
  readonly runtime: Runtime
}

/** What one pull cost. */
interface Cost extends Felt {
  readonly ms: number
  readonly peakMb: number
}

const note = (text: string) => console.error(`bench  ${text}`)

export async function benchPull({ rounds, json, only }: { rounds: number; json: string; only?: string | undefined }) {
  const names = ['cricket', 'containerd'].filter((name) => !only || name === only)
  const registrySite = await createSite()
  const registry = await startRegistry(registrySite.dir)
  const contestants: Contestant[] = []
  try {
    const images = await makeImages(registry, registrySite)
    for (const name of names) contestants.push(await start(name, registry))
    const before = loadavg()
    const figures = await measure(contestants, registry, images, rounds)
    if (!only) figures.push(await skopeo(images.big, registrySite, rounds))
    console.log(`\n${renderTable(figures, [...names, ...(only ? [] : ['skopeo'])])}\n`)
    note(`load before ${before[0]?.toFixed(1)}, after ${loadavg()[0]?.toFixed(1)}`)
    await writeFile(
      json,
      `${JSON.stringify({ at: new Date().toISOString(), rounds, load: before, figures }, null, 2)}\n`,
    )
  } finally {
    for (const { runtime, site } of contestants) {
      await runtime.stop()
      await removeSite(site)
    }
    await registry.stop()
    await removeSite(registrySite)
  }
}

interface Images {
  readonly big: string
  readonly small: string
  /** Two more big ones, without a layer in common. */
  readonly others: readonly string[]
}

async function makeImages(registry: Registry, site: Site): Promise<Images> {
  note('making images: 4 MB, and three times 1 GB in ten layers')
  await pushImage(registry.url, 'pause', '1', await makePauseImage(site))
  const push = async (name: string, layers: number, bytes: number): Promise<string> => {
    const made: Layer[] = []
    for (let count = 0; count < layers; count++) made.push(await bigLayer(`layer-${count}`, bytes))
    const image: OciImage = makeImage(made, { Cmd: ['/x'] })
    await pushImage(registry.url, name, '1', image)
    const compressed = made.reduce((sum, layer) => sum + layer.bytes.length, 0)
    note(`${name}: ${((layers * bytes) / MIB).toFixed(0)} MiB, ${(compressed / MIB).toFixed(0)} MiB compressed`)
    return `${registry.host}/${name}:1`
  }
  return {
    small: await push('small', 1, 4 * MIB),
    big: await push('big', 10, 100 * MIB),
    others: [await push('big2', 10, 100 * MIB), await push('big3', 10, 100 * MIB)],
  }
}

/** Files of 1 MiB, half of it noise, so that it packs to about half, as programs do. */
async function bigLayer(name: string, bytes: number): Promise<Layer> {
  const pack = tar.pack()
  const whole = buffer(pack)
  for (let file = 0; file * MIB < bytes; file++) {
    const half = randomBytes(MIB / 2)
    const content = Buffer.concat([half, Buffer.alloc(MIB / 2, half.subarray(0, 96))])
    await new Promise((done) => pack.entry({ name: `${name}/${file}`, mtime: new Date(0) }, content, done))
  }
  pack.finalize()
  const raw = await whole
  const packed = gzipSync(raw, { level: 1 })
  return { mediaType: LAYER, digest: digestOf(packed), bytes: packed, diffId: digestOf(raw) }
}

async function start(name: string, registry: Registry): Promise<Contestant> {
  const site = await createSite()
  const runtime =
    name === 'cricket'
      ? await startCricket(site, { insecureRegistries: [registry.host] })
      : await startContainerd(site, `${registry.host}/pause:1`)
  return { name, site, runtime }
}

async function measure(all: Contestant[], registry: Registry, images: Images, rounds: number): Promise<Figure[]> {
  const costs = new Map<string, Map<string, Cost[]>>()
  const add = (what: string, who: string, cost: Cost) => {
    const byName = costs.get(what) ?? new Map<string, Cost[]>()
    costs.set(what, byName.set(who, [...(byName.get(who) ?? []), cost]))
  }
  for (const { runtime } of all) await pull(runtime, [`${registry.host}/pause:1`])
  for (let round = 0; round < rounds; round++) {
    for (const { name, runtime } of round % 2 === 0 ? all : all.toReversed()) {
      note(`round ${round + 1} of ${rounds}: ${name}, load ${loadavg()[0]?.toFixed(1)}`)
      add('small image', name, await pull(runtime, [images.small]))
      add('1 GB, ten layers', name, await pull(runtime, [images.big]))
      if (round === 0) add('three at once', name, await pull(runtime, [images.big, ...images.others]))
    }
  }
  return [...costs].flatMap(([what, byName]) => [
    figure(`${what}, wall`, 'ms', byName, ({ ms }) => ms),
    figure(`${what}, peak RSS of the daemon`, 'MB', byName, ({ peakMb }) => peakMb),
    figure(`${what}, slowest Version call`, 'ms', byName, ({ slowestCallMs }) => slowestCallMs),
    figure(`${what}, longest standstill of the event loop`, 'ms', byName, ({ loopLagMs = Number.NaN }) => loopLagMs),
  ])
}

/** The median of the rounds. */
const figure = (
  name: string,
  unit: Figure['unit'],
  byName: Map<string, Cost[]>,
  of: (cost: Cost) => number,
): Figure => ({
  name,
  unit,
  values: Object.fromEntries(
    [...byName].map(([who, costs]) => [who, costs.map(of).sort((a, b) => a - b)[Math.floor(costs.length / 2)] ?? 0]),
  ),
})

/** Pulls these at the same time, waits until all are there, and removes them again. */
async function pull(runtime: Runtime, references: readonly string[]): Promise<Cost> {
  const { images } = runtime.cri
  execFileSync('sync')
  // From here on VmHWM is the most that this pull needed.
  await writeFile(`/proc/${runtime.pid}/clear_refs`, '5')
  const watch = watchRuntime(runtime)
  const began = performance.now()
  await Promise.all(references.map((name) => images.pullImage({ image: imageSpec(name) }, { timeoutMs: 900_000 })))
  const ms = performance.now() - began
  const felt = await watch.stop()
  const status = await readFile(`/proc/${runtime.pid}/status`, 'utf8')
  const peakMb = (Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) * 1024) / 1e6
  for (const name of references) await images.removeImage({ image: imageSpec(name) })
  await sleep(500)
  return { ms, peakMb, ...felt }
}

/** Download and checksum alone, into a directory. */
async function skopeo(reference: string, site: Site, rounds: number): Promise<Figure> {
  const samples: number[] = []
  for (let round = 0; round < rounds; round++) {
    const to = site.path(`skopeo-${round}`)
    const began = performance.now()
    execFileSync('skopeo', [
      'copy',
      '--quiet',
      '--src-tls-verify=false',
      '--insecure-policy',
      `docker://${reference}`,
      `dir:${to}`,
    ])
    samples.push(performance.now() - began)
    await rm(to, { recursive: true })
  }
  samples.sort((a, b) => a - b)
  const median = samples[Math.floor(samples.length / 2)] ?? 0
  return { name: '1 GB, download only', unit: 'ms', values: { skopeo: median } }
}
