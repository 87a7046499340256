/**
 * `npm run bench -- unpack`: one OCI archive to an image that containers can be made of, by cricket (`image load`), Debian's containerd (`ctr image
 * import`) and `umoci unpack`, turn by turn; `tar xzf` of the same layers beside them, which verifies nothing. Each has a new ext4 with a
 * journal to itself: what was deleted before would count otherwise. Many small files, a few big ones, and ten layers.
 */

import { execFile, execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import * as tar from 'tar-stream'
import { startContainerd } from '../containerd.ts'
import { CRICKET, startCricket } from '../cricket.ts'
import { imageSpec } from '../image-spec.ts'
import { digestOf, type Layer, makeImage, type OciImage, writeLayout } from '../oci-image.ts'
import type { Runtime } from '../runtime.ts'
import { createSite, removeSite } from '../site.ts'
import { type Figure, renderTable } from './figures.ts'
import { type Felt, watchRuntime } from './watch-runtime.ts'

const run = promisify(execFile)
const KIB = 1024
const MIB = 2 ** 20
const NAME = 'registry.example/bench:1'
const NAMES = ['cricket', 'containerd', 'umoci', 'tar (unverified)']

interface Cost extends Partial<Felt> {
  readonly ms: number
  /** Most resident memory at once, of all processes that took part and are not the client. */
  readonly peakMb: number
}

/** A layout directory, and an archive of one with the same image. */
interface Source {
  readonly directory: string
  readonly archive: string
  readonly layers: readonly Layer[]
}

const note = (text: string) => console.error(`bench  ${text}`)

export async function benchUnpack({ rounds, json, only }: { rounds: number; json: string; only?: string | undefined }) {
  const base = await mkdtemp(join(tmpdir(), 'ck-unpack-'))
  const costs = new Map<string, Map<string, Cost[]>>()
  const before = loadavg()
  try {
    const sources = await makeSources(base)
    for (let round = 0; round < rounds; round++) {
      const order = round % 2 === 0 ? NAMES : NAMES.toReversed()
      for (const who of order) {
        if (only !== undefined && who !== only) continue
        note(`round ${round + 1} of ${rounds}: ${who}, load ${loadavg()[0]?.toFixed(1)}`)
        for (const [what, cost] of await onNewFileSystem(base, () => contest(who, sources))) {
          const byName = costs.get(what) ?? new Map<string, Cost[]>()
          costs.set(what, byName.set(who, [...(byName.get(who) ?? []), cost]))
        }
      }
    }
    const figures = [...costs].flatMap(([what, byName]) => [
      figure(`${what}, wall`, 'ms', byName, ({ ms }) => ms),
      figure(`${what}, peak memory`, 'MB', byName, ({ peakMb }) => peakMb),
      figure(`${what}, slowest Version call`, 'ms', byName, ({ slowestCallMs = Number.NaN }) => slowestCallMs),
      figure(`${what}, longest standstill of the event loop`, 'ms', byName, ({ loopLagMs = Number.NaN }) => loopLagMs),
    ])
    console.log(`\n${renderTable(figures, NAMES)}\n`)
    note(`load before ${before[0]?.toFixed(1)}, after ${loadavg()[0]?.toFixed(1)}`)
    await writeFile(
      json,
      `${JSON.stringify({ at: new Date().toISOString(), rounds, load: before, figures }, null, 2)}\n`,
    )
  } finally {
    await rm(base, { recursive: true, force: true })
  }
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
    [...byName].map(([who, all]) => [who, all.map(of).sort((a, b) => a - b)[Math.floor(all.length / 2)] ?? 0]),
  ),
})

async function makeSources(base: string): Promise<Map<string, Source>> {
  note('making images')
  const images: Record<string, OciImage> = {
    'many small files': makeImage([await makeLayer('small', 12_000, 6 * KIB)]),
    'few big files': makeImage([await makeLayer('big', 4, 50 * MIB), await makeLayer('more', 2, 50 * MIB)]),
    'ten layers': makeImage(
      await Promise.all(Array.from({ length: 10 }, (_, i) => makeLayer(`l${i}`, 300, 100 * KIB))),
    ),
  }
  const sources = new Map<string, Source>()
  for (const [what, image] of Object.entries(images)) {
    const directory = join(base, what.replaceAll(' ', '-'))
    const archive = `${directory}.tar`
    await writeLayout(directory, { [NAME]: image })
    execFileSync('tar', ['-cf', archive, '-C', directory, '.'])
    // What umoci calls an image has no colon in it.
    await writeLayout(directory, { bench: image })
    sources.set(what, { directory, archive, layers: image.layers })
  }
  return sources
}

/** Half of each file is noise, so that it packs to about half, as programs do. A directory for each twelve. */
async function makeLayer(name: string, files: number, bytes: number): Promise<Layer> {
  const pack = tar.pack()
  const whole = buffer(pack)
  for (let file = 0; file < files; file++) {
    const half = randomBytes(bytes / 2)
    const content = Buffer.concat([half, Buffer.alloc(bytes / 2, half.subarray(0, 96))])
    const path = `${name}/${Math.floor(file / 12)}/${file}`
    await new Promise((done) => pack.entry({ name: path, mtime: new Date(1e12) }, content, done))
  }
  pack.finalize()
  const raw = await whole
  const packed = gzipSync(raw, { level: 1 })
  const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip'
  return { mediaType, digest: digestOf(packed), bytes: packed, diffId: digestOf(raw) }
}

/** With `TMPDIR` on it. */
async function onNewFileSystem<T>(base: string, work: () => Promise<T>): Promise<T> {
  const [image, mountpoint] = [join(base, 'disk.img'), join(base, 'disk')]
  await mkdir(mountpoint, { recursive: true })
  execFileSync('truncate', ['-s', '4G', image])
  execFileSync('mkfs.ext4', ['-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0', image])
  execFileSync('mount', ['-o', 'loop', image, mountpoint])
  const { TMPDIR } = process.env
  process.env.TMPDIR = mountpoint
  try {
    return await work()
  } finally {
    if (TMPDIR === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = TMPDIR
    execFileSync('umount', ['-l', mountpoint])
    await rm(image)
  }
}

async function contest(who: string, sources: Map<string, Source>): Promise<Map<string, Cost>> {
  if (who === 'umoci') return each(sources, umoci)
  if (who !== 'cricket' && who !== 'containerd') return each(sources, plainTar)
  const site = await createSite()
  const runtime = who === 'cricket' ? await startCricket(site) : await startContainerd(site, 'unused.example/pause:1')
  const [program, args]: [string, string[]] =
    who === 'cricket'
      ? [CRICKET, ['image', 'load', '--config', site.path('config.yaml')]]
      : ['ctr', ['--address', site.path('containerd.sock'), '--namespace', 'k8s.io', 'image', 'import']]
  try {
    return await each(sources, ({ archive }) => load(runtime, program, [...args, archive]))
  } finally {
    await runtime.stop()
    await removeSite(site)
  }
}

async function each(sources: Map<string, Source>, work: (source: Source) => Promise<Cost>) {
  const costs = new Map<string, Cost>()
  for (const [what, source] of sources) {
    execFileSync('sync', ['-f', tmpdir()])
    costs.set(what, await work(source))
  }
  return costs
}

async function load(runtime: Runtime, program: string, args: string[]): Promise<Cost> {
  const [watch, memory] = [watchRuntime(runtime), watchMemory(runtime)]
  const began = performance.now()
  await run(program, args)
  const ms = performance.now() - began
  const [felt, peakMb] = await Promise.all([watch.stop(), memory.stop()])
  await runtime.cri.images.removeImage({ image: imageSpec(NAME) })
  await sleep(500)
  return { ms, peakMb, ...felt }
}

async function umoci({ directory }: Source): Promise<Cost> {
  const bundle = await mkdtemp(join(tmpdir(), 'bundle-'))
  const cost = await command('umoci', ['unpack', '--image', `${directory}:bench`, join(bundle, 'unpacked')])
  await rm(bundle, { recursive: true })
  return cost
}

async function plainTar({ directory, layers }: Source): Promise<Cost> {
  const costs: Cost[] = []
  for (const { digest } of layers) {
    const to = await mkdtemp(join(tmpdir(), 'tar-'))
    costs.push(await command('tar', ['-xzf', join(directory, 'blobs', digest.replace(':', '/')), '-C', to]))
  }
  return {
    ms: costs.reduce((sum, { ms }) => sum + ms, 0),
    peakMb: Math.max(...costs.map(({ peakMb }) => peakMb)),
  }
}

async function command(program: string, args: string[]): Promise<Cost> {
  const began = performance.now()
  const running = run(program, args)
  let [going, peakMb] = [true, 0]
  const watching = (async () => {
    for (; going; await sleep(10)) peakMb = Math.max(peakMb, await residentMb(running.child.pid))
  })()
  await running
  const ms = performance.now() - began
  going = false
  await watching
  return { ms, peakMb }
}

/** The most memory of the daemon and of the processes that it unpacks with. */
function watchMemory(runtime: Runtime): { stop(): Promise<number> } {
  let [going, peakMb] = [true, 0]
  const memory = (async () => {
    for (; going; await sleep(20)) {
      const all = await Promise.all([runtime.pid, ...(await unpackersOf(runtime.pid))].map(residentMb))
      peakMb = Math.max(
        peakMb,
        all.reduce((sum, mb) => sum + mb, 0),
      )
    }
  })()
  return {
    stop: async () => {
      going = false
      await memory
      return peakMb
    },
  }
}

async function unpackersOf(pid: number): Promise<number[]> {
  const found: number[] = []
  for (const task of await readdir(`/proc/${pid}/task`)) {
    const children = await readFile(`/proc/${pid}/task/${task}/children`, 'utf8').catch(() => '')
    for (const child of children.split(' ').filter(Boolean)) {
      const line = await readFile(`/proc/${child}/cmdline`, 'utf8').catch(() => '')
      if (line.includes('unpack')) found.push(Number(child))
    }
  }
  return found
}

async function residentMb(pid: number | undefined): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  return (Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) * KIB) / 1e6
}
