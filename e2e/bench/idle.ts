/**
 * `npm run bench -- idle --pods 100`: what the daemon costs while nothing happens, beside containerd in the same minute: without any
 * call, polled as a kubelet does, and per call of the lists that a kubelet asks for. Processor time is the kernel's own count, so
 * that the two may run at the same time.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { CriClient } from '../cri-client.ts'
import { processesOf } from '../leftovers.ts'
import { containerConfig, podConfig, startPod } from '../pods.ts'
import type { Runtime } from '../runtime.ts'
import type { Site } from '../site.ts'
import type { Figure } from './figures.ts'
import { preciseCpuMs } from './monitor.ts'

/** One runtime, running. */
export interface Idler {
  name: string
  site: Site
  runtime: Runtime
  image: string
}

const QUIET_SECONDS = 20
const POLLED_SECONDS = 40
const CALLS = 60
const AT_ONCE = 5
const SECOND = 1000
/** What follows a call in the daemon (garbage collection, closing of descriptors) belongs to it. */
const SETTLE_MS = 500

const note = (text: string) => console.error(`bench  ${text}`)

async function startPods({ site, runtime, image }: Idler, count: number): Promise<void> {
  const start = async (n: number) => {
    const plain = await podConfig(site, `idle-${n}`)
    // As the kubelet does: a cgroup for each pod.
    const linux = { ...plain.linux, cgroupParent: `${site.cgroupParent}/pod${n}` }
    const config = await podConfig(site, `idle-${n}`, { linux })
    await startPod(runtime.cri, config, containerConfig('main', image, ['sleep', '100000']))
  }
  for (let n = 0; n < count; n += AT_ONCE) {
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, count - n) }, (_, k) => start(n + k)))
  }
}

/** Repeats a call until the signal ends it. */
async function every(seconds: number, signal: AbortSignal, call: () => Promise<unknown>): Promise<void> {
  while (!signal.aborted) {
    await call()
    await sleep(seconds * SECOND, undefined, { signal }).catch(() => {})
  }
}

/** The relisting of the PLEG, the status loop, and what the eviction manager asks for. */
const pollAsKubelet = ({ runtime, images }: CriClient, signal: AbortSignal) =>
  Promise.all([
    every(1, signal, () => Promise.all([runtime.listPodSandbox({}), runtime.listContainers({})])),
    every(5, signal, () => runtime.status({})),
    every(10, signal, async () => {
      await images.imageFsInfo({})
      await Promise.all([runtime.listPodSandbox({}), runtime.listContainers({}), runtime.listContainerStats({})])
    }),
  ])

interface Cost {
  daemonMs: number
  /** Monitors or shims, and whatever else the runtime has started. */
  othersMs: number
}

async function costOf({ site, runtime }: Idler): Promise<Cost> {
  const others = await processesOf(site, [runtime.pid])
  const helpers = others.filter(({ name }) => !/^(sleep|\/pause)/.test(name))
  const costs = await Promise.all(helpers.map(({ pid }) => preciseCpuMs(pid).catch(() => 0)))
  return { daemonMs: await preciseCpuMs(runtime.pid), othersMs: costs.reduce((sum, each) => sum + each, 0) }
}

/** What each has used during the work, divided by `by`. */
async function costs(idlers: Idler[], by: number, work: () => Promise<unknown>): Promise<Map<string, Cost>> {
  const before = await Promise.all(idlers.map(costOf))
  await work()
  const after = await Promise.all(idlers.map(costOf))
  return new Map(
    idlers.map(({ name }, index) => {
      const [from, to] = [before[index], after[index]]
      const cost = (key: keyof Cost) => ((to?.[key] ?? 0) - (from?.[key] ?? 0)) / by
      return [name, { daemonMs: cost('daemonMs'), othersMs: cost('othersMs') }]
    }),
  )
}

function figures(name: string, cost: Map<string, Cost>): Figure[] {
  const values = (key: keyof Cost) => Object.fromEntries([...cost].map(([runtime, each]) => [runtime, each[key]]))
  return [
    { name: `${name}, daemon`, unit: 'ms', values: values('daemonMs') },
    { name: `${name}, monitors or shims`, unit: 'ms', values: values('othersMs') },
  ]
}

/** Calls that only one of the two knows are measured for that one. */
async function perCall(idlers: Idler[], name: string, call: (cri: CriClient) => Promise<unknown>): Promise<Figure[]> {
  const able: Idler[] = []
  for (const idler of idlers) if (await call(idler.runtime.cri).then(Boolean, () => false)) able.push(idler)
  const cost = await costs(able, CALLS, async () => {
    for (let n = 0; n < CALLS; n++) {
      for (const { runtime } of able) await call(runtime.cri)
      await sleep(SETTLE_MS / CALLS)
    }
    await sleep(SETTLE_MS)
  })
  return figures(`${name}, per call`, cost)
}

/** Of every runtime with this many idle pods. */
export async function benchIdle(idlers: Idler[], pods: number): Promise<Figure[]> {
  note(`${pods} pods each`)
  for (const idler of idlers) await startPods(idler, pods)
  await sleep(5 * SECOND)
  note(`${QUIET_SECONDS} s without a call`)
  const quiet = await costs(idlers, QUIET_SECONDS, () => sleep(QUIET_SECONDS * SECOND))
  note(`${POLLED_SECONDS} s polled as by a kubelet`)
  const polled = await costs(idlers, POLLED_SECONDS, () => {
    const signal = AbortSignal.timeout(POLLED_SECONDS * SECOND)
    return Promise.all(idlers.map(({ runtime }) => pollAsKubelet(runtime.cri, signal)))
  })
  note('single calls')
  return [
    ...figures('a second without a call', quiet),
    ...figures('a second, polled', polled),
    ...(await perCall(idlers, 'ListPodSandbox', ({ runtime }) => runtime.listPodSandbox({}))),
    ...(await perCall(idlers, 'ListContainers', ({ runtime }) => runtime.listContainers({}))),
    ...(await perCall(idlers, 'ListContainerStats', ({ runtime }) => runtime.listContainerStats({}))),
    ...(await perCall(idlers, 'ListPodSandboxStats', ({ runtime }) => runtime.listPodSandboxStats({}))),
    ...(await perCall(idlers, 'ListPodSandboxMetrics', ({ runtime }) => runtime.listPodSandboxMetrics({}))),
  ]
}
