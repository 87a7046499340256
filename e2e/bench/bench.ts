/**
 * `npm run bench`: cricket beside Debian's containerd, in one run, turn by turn. Each has its own directories and
 * bridge; runc, CNI plugins, image and registry are the same. Prints a table and writes JSON; there is no pass or fail.
 *
 *   --rounds N   pods started one at a time (30)      --pods N    pods that are up for the memory figures (20)
 *   --json PATH  default dist/bench.json              --only NAME only this runtime
 *   monitor      as the first word: only our monitor beside conmon, see monitor.ts
 *   streaming    as the first word: only exec and port-forward, see streaming.ts
 *   spec         as the first word: only the making of specs, see spec.ts
 *   pull         as the first word: only pulls, see pull.ts
 *   unpack       as the first word: only the unpacking of images from files, see unpack.ts
 *   idle         as the first word: only what a node at rest costs, see idle.ts
 */

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { readlink, writeFile } from 'node:fs/promises'
import { cpus, release } from 'node:os'
import { basename, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { makePauseImage, startContainerd } from '../containerd.ts'
import { startCricket } from '../cricket.ts'
import { imageSpec } from '../image-spec.ts'
import { processesOf } from '../leftovers.ts'
import { busyboxImage, pushImage } from '../oci-image.ts'
import { containerConfig, createContainer, podConfig, removeAllPods } from '../pods.ts'
import { memoryOf, type ProcessMemory } from '../process-memory.ts'
import { type Registry, startRegistry } from '../registry.ts'
import type { Runtime } from '../runtime.ts'
import { createSite, removeSite, type Site } from '../site.ts'
import { type Figure, percentiles, renderTable } from './figures.ts'
import { benchIdle } from './idle.ts'
import { benchMonitors, preciseCpuMs } from './monitor.ts'
import { benchPull } from './pull.ts'
import { benchSpec } from './spec.ts'
import { benchStreaming } from './streaming.ts'
import { benchUnpack } from './unpack.ts'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '30' },
    pods: { type: 'string', default: '20' },
    json: { type: 'string', default: resolve(import.meta.dirname, '../../dist/bench.json') },
    only: { type: 'string' },
  },
})
const ROUNDS = Number(options.rounds)
const PODS = Number(options.pods)
const AT_ONCE = 10
const IDLE_SECONDS = 30
/** Each moves 1.2 GB for each runtime. */
const MAX_STREAMING_ROUNDS = 5
const IDLE = ['sleep', '100000']

/** One of the two runtimes, running. */
interface Contestant {
  name: string
  site: Site
  runtime: Runtime
  image: string
}

type Samples = Record<string, number[]>

const note = (text: string) => console.error(`bench  ${text}`)

/** Milliseconds that the work took, added to the contestant's samples. */
async function timed<T>(samples: Samples, name: string, work: () => Promise<T>): Promise<T> {
  const begin = performance.now()
  const value = await work()
  const list = samples[name] ?? []
  samples[name] = list
  list.push(performance.now() - begin)
  return value
}

const START_PHASES = ['RunPodSandbox', 'CreateContainer', 'StartContainer'] as const
const END_PHASES = ['StopContainer', 'RemoveContainer', 'StopPodSandbox', 'RemovePodSandbox'] as const
type Phase = 'all' | (typeof START_PHASES)[number] | (typeof END_PHASES)[number]
type PhaseSamples = Partial<Record<Phase, Samples>>

const phase = (samples: PhaseSamples, name: Phase): Samples => {
  const found = samples[name] ?? {}
  samples[name] = found
  return found
}

interface Pod {
  sandboxId: string
  containerId: string
}

async function startPod({ name, site, runtime, image }: Contestant, pod: string, samples: PhaseSamples): Promise<Pod> {
  const { cri } = runtime
  const config = await podConfig(site, pod)
  const container = containerConfig('main', image, IDLE)
  return timed(phase(samples, 'all'), name, async () => {
    const { podSandboxId } = await timed(phase(samples, 'RunPodSandbox'), name, () =>
      cri.runtime.runPodSandbox({ config }),
    )
    const containerId = await timed(phase(samples, 'CreateContainer'), name, () =>
      createContainer(cri, podSandboxId, config, container),
    )
    await timed(phase(samples, 'StartContainer'), name, () => cri.runtime.startContainer({ containerId }))
    return { sandboxId: podSandboxId, containerId }
  })
}

/** As the kubelet does without grace: the container is killed at once. */
async function endPod(
  { name, runtime }: Contestant,
  { sandboxId, containerId }: Pod,
  samples: PhaseSamples,
): Promise<void> {
  const { runtime: calls } = runtime.cri
  await timed(phase(samples, 'all'), name, async () => {
    await timed(phase(samples, 'StopContainer'), name, () => calls.stopContainer({ containerId, timeout: 0n }))
    await timed(phase(samples, 'RemoveContainer'), name, () => calls.removeContainer({ containerId }))
    await timed(phase(samples, 'StopPodSandbox'), name, () => calls.stopPodSandbox({ podSandboxId: sandboxId }))
    await timed(phase(samples, 'RemovePodSandbox'), name, () => calls.removePodSandbox({ podSandboxId: sandboxId }))
  })
}

/** Who begins changes from round to round, so that neither always follows the other's dirt. */
async function inTurns(
  contestants: Contestant[],
  rounds: number,
  work: (c: Contestant, round: number) => Promise<void>,
) {
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? contestants : contestants.toReversed()
    for (const contestant of order) await work(contestant, round)
  }
}

async function podsOneByOne(contestants: Contestant[]): Promise<Figure[]> {
  note(`${ROUNDS} pods each, one at a time`)
  const starts: PhaseSamples = {}
  const ends: PhaseSamples = {}
  await inTurns(contestants, ROUNDS, async (contestant, round) => {
    const pod = await startPod(contestant, `one-${round}`, starts)
    await endPod(contestant, pod, ends)
  })
  return [
    ...percentiles('pod start, one at a time', phase(starts, 'all')),
    ...START_PHASES.flatMap((name) => percentiles(`  ${name}`, phase(starts, name), [0.5])),
    ...percentiles('pod end, one at a time', phase(ends, 'all')),
    ...END_PHASES.flatMap((name) => percentiles(`  ${name}`, phase(ends, name), [0.5])),
  ]
}

async function podsAtOnce(contestants: Contestant[]): Promise<Figure[]> {
  const rounds = Math.max(1, Math.round(ROUNDS / 6))
  note(`${rounds} times ${AT_ONCE} pods at once`)
  const starts: PhaseSamples = {}
  const ends: PhaseSamples = {}
  const whole: Samples = {}
  await inTurns(contestants, rounds, async (contestant, round) => {
    const names = Array.from({ length: AT_ONCE }, (_, n) => `many-${round}-${n}`)
    const pods = await timed(whole, contestant.name, () =>
      Promise.all(names.map((name) => startPod(contestant, name, starts))),
    )
    await Promise.all(pods.map((pod) => endPod(contestant, pod, ends)))
  })
  return [
    ...percentiles(`pod start, ${AT_ONCE} at once`, phase(starts, 'all')),
    ...percentiles(`  all ${AT_ONCE} up`, whole, [0.5]),
    ...percentiles(`pod end, ${AT_ONCE} at once`, phase(ends, 'all'), [0.5]),
  ]
}

async function bringUp(contestants: Contestant[]): Promise<Record<string, Pod[]>> {
  note(`${PODS} pods each, to stay`)
  const pods: Record<string, Pod[]> = {}
  await inTurns(contestants, PODS, async (contestant, round) => {
    const list = pods[contestant.name] ?? []
    pods[contestant.name] = list
    list.push(await startPod(contestant, `stay-${round}`, {}))
  })
  return pods
}

async function calls(contestants: Contestant[], pods: Record<string, Pod[]>): Promise<Figure[]> {
  note('ExecSync and List calls')
  const exec: Samples = {}
  await inTurns(contestants, 50, async ({ name, runtime }, round) => {
    const list = pods[name] ?? []
    const containerId = list[round % list.length]?.containerId ?? ''
    await timed(exec, name, () => runtime.cri.runtime.execSync({ containerId, cmd: ['true'], timeout: 10n }))
  })
  const lists: Record<string, Samples> = { ListPodSandbox: {}, ListContainers: {}, ContainerStatus: {}, Status: {} }
  await inTurns(contestants, 200, async ({ name, runtime }) => {
    const { runtime: api } = runtime.cri
    const containerId = pods[name]?.[0]?.containerId ?? ''
    await timed(lists.ListPodSandbox ?? {}, name, () => api.listPodSandbox({}))
    await timed(lists.ListContainers ?? {}, name, () => api.listContainers({}))
    await timed(lists.ContainerStatus ?? {}, name, () => api.containerStatus({ containerId }))
    await timed(lists.Status ?? {}, name, () => api.status({}))
  })
  return [
    ...percentiles("ExecSync of 'true'", exec),
    ...Object.entries(lists).flatMap(([name, samples]) => percentiles(`${name}, ${PODS} pods`, samples, [0.5, 0.99])),
  ]
}

/** What each runtime's processes cost: the daemon, its monitors or shims, and what sandboxes run. */
async function memory(contestants: Contestant[]): Promise<Figure[]> {
  note('memory, half a minute after the last call')
  const usage = async () =>
    new Map(
      await Promise.all(contestants.map(async ({ name, runtime }) => [name, await preciseCpuMs(runtime.pid)] as const)),
    )
  const before = await usage()
  await sleep(IDLE_SECONDS * 1000)
  const used = await usage()
  execFileSync('sync')
  const figures = new Map<string, Figure>()
  const set = (name: string, unit: Figure['unit'], runtime: string, value: number) => {
    const figure = figures.get(name) ?? { name, unit, values: {} }
    figures.set(name, figure)
    figure.values[runtime] = value
  }
  for (const { name, site, runtime } of contestants) {
    const idleMs = (used.get(name) ?? Number.NaN) - (before.get(name) ?? Number.NaN)
    set(`daemon, processor time a second, idle, ${PODS} pods`, 'ms', name, idleMs / IDLE_SECONDS)
    const daemon = await memoryOf(runtime.pid)
    const { monitors, pauses } = await overhead(site, runtime.pid)
    const sum = (list: ProcessMemory[], key: keyof ProcessMemory) =>
      list.reduce((all, each) => all + each[key], 0) / 1e6
    set(`daemon, private dirty, ${PODS} pods`, 'MB', name, daemon.privateDirty / 1e6)
    set(`daemon, PSS, ${PODS} pods`, 'MB', name, daemon.pss / 1e6)
    set('monitors or shims', 'count', name, monitors.length)
    set('monitor or shim, private dirty, mean', 'MB', name, sum(monitors, 'privateDirty') / monitors.length)
    set('monitor or shim, PSS, mean', 'MB', name, sum(monitors, 'pss') / monitors.length)
    set('pause processes', 'count', name, pauses.length)
    set('per pod, private dirty, all but the daemon', 'MB', name, sum([...monitors, ...pauses], 'privateDirty') / PODS)
    set('per pod, PSS, all but the daemon', 'MB', name, sum([...monitors, ...pauses], 'pss') / PODS)
  }
  return [...figures.values()]
}

/** Memory of the processes that a runtime adds to the pods' own, which are `sleep` here. */
async function overhead(
  site: Site,
  daemonPid: number,
): Promise<{ monitors: ProcessMemory[]; pauses: ProcessMemory[] }> {
  const monitors: ProcessMemory[] = []
  const pauses: ProcessMemory[] = []
  for (const { pid, name } of await processesOf(site, [daemonPid])) {
    const exe = basename(await readlink(`/proc/${pid}/exe`))
    if (exe === 'conmon' || exe === 'containerd-shim-runc-v2' || name.includes('conmon.cjs'))
      monitors.push(await memoryOf(pid))
    else if (name === '/pause' || exe === 'catatonit') pauses.push(await memoryOf(pid))
  }
  return { monitors, pauses }
}

async function start(name: string, registry: Registry, started: Contestant[]): Promise<void> {
  const site = await createSite()
  const contestant = { name, site, image: `${registry.host}/busybox:1` }
  const begin = performance.now()
  const runtime =
    name === 'cricket'
      ? await startCricket(site, { insecureRegistries: [registry.host], logLevel: 'info' })
      : await startContainerd(site, `${registry.host}/pause:1`)
  started.push({ ...contestant, runtime })
  const { runtimeVersion } = await runtime.cri.runtime.version({})
  note(`${name} ${runtimeVersion} answers after ${(performance.now() - begin).toFixed(0)} ms`)
  await runtime.cri.images.pullImage({ image: imageSpec(contestant.image) })
}

async function bench(contestants: Contestant[]): Promise<Figure[]> {
  note('warming up')
  await inTurns(contestants, 3, async (contestant, round) => {
    await endPod(contestant, await startPod(contestant, `warm-${round}`, {}), {})
  })
  const figures = [...(await podsOneByOne(contestants)), ...(await podsAtOnce(contestants))]
  const pods = await bringUp(contestants)
  figures.push(...(await calls(contestants, pods)), ...(await memory(contestants)))
  return figures
}

function host() {
  const version = (command: string) => execFileSync(command, ['--version'], { encoding: 'utf8' }).split('\n')[0]
  const model = cpus()[0]?.model ?? 'unknown'
  const memoryTotal = /MemTotal:\s+(\d+)/.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]
  return {
    kernel: release(),
    cpus: cpus().length,
    model,
    memoryKiB: Number(memoryTotal),
    runc: version('runc'),
    containerd: version('containerd'),
  }
}

async function main(measure: (contestants: Contestant[]) => Promise<Figure[]>): Promise<void> {
  const names = ['cricket', 'containerd'].filter((name) => !options.only || name === options.only)
  const contestants: Contestant[] = []
  const registrySite = await createSite()
  const registry = await startRegistry(registrySite.dir)
  try {
    await pushImage(registry.url, 'pause', '1', await makePauseImage(registrySite))
    await pushImage(registry.url, 'busybox', '1', await busyboxImage())
    for (const name of names) await start(name, registry, contestants)
    const figures = await measure(contestants)
    console.log(`\n${renderTable(figures, names)}\n`)
    const result = { at: new Date().toISOString(), host: host(), rounds: ROUNDS, pods: PODS, figures }
    await writeFile(options.json, `${JSON.stringify(result, null, 2)}\n`)
    note(`written to ${options.json}`)
  } finally {
    for (const { runtime, site } of contestants) {
      await removeAllPods(runtime.cri).catch((error) => note(`removal of pods failed: ${error}`))
      await runtime.stop()
      await removeSite(site)
    }
    await registry.stop()
    await removeSite(registrySite)
  }
}

const words: Record<string, () => Promise<void>> = {
  idle: () => main((contestants) => benchIdle(contestants, PODS)),
  monitor: () => benchMonitors({ rounds: ROUNDS, pods: PODS }),
  pull: () => benchPull({ rounds: Math.ceil(ROUNDS / 10), json: options.json, only: options.only }),
  unpack: () => benchUnpack({ rounds: Math.ceil(ROUNDS / 10), json: options.json, only: options.only }),
  spec: async () => benchSpec(),
  streaming: () => main((contestants) => benchStreaming(contestants, Math.min(ROUNDS, MAX_STREAMING_ROUNDS))),
}
await (words[positionals[0] ?? ''] ?? (() => main(bench)))()
