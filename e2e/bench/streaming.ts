/**
 * `npm run bench -- streaming`: bytes through exec and port-forward, beside containerd, turn by turn with the same client; the
 * processor time that the runtime's processes spend on it, and how fast the daemon answers meanwhile.
 */

import { readFile } from 'node:fs/promises'
import type { CriClient } from '../cri-client.ts'
import { processesOf } from '../leftovers.ts'
import { containerConfig, createContainer, podConfig } from '../pods.ts'
import type { Runtime } from '../runtime.ts'
import type { Site } from '../site.ts'
import { type Figure, percentile, percentiles } from './figures.ts'
import { startProbe } from './latency-probe.ts'
import { dialStream } from './stream-client.ts'

/** One runtime, running. */
export interface Streamer {
  name: string
  site: Site
  runtime: Runtime
  image: string
}

interface Pod {
  cri: CriClient
  sandboxId: string
  containerId: string
}

const MIB = 1_048_576
const BYTES = 300 * MIB
const OUT_PORT = 9001
const IN_PORT = 9002
const ZEROS = `dd if=/dev/zero bs=1M count=${BYTES / MIB} 2>/dev/null`
/** Says so when all has come; half-close it cannot wait for, see forward(). */
const TAKES = `dd of=/dev/null bs=64k count=${BYTES / 65_536} iflag=fullblock 2>/dev/null && echo ${BYTES}`

/** Listens on both ports: one sends zeros, one says what it got. */
const SERVERS = `nc -ll -p ${OUT_PORT} -e sh -c '${ZEROS}' & exec nc -ll -p ${IN_PORT} -e sh -c '${TAKES}'`

async function startPod({ site, runtime, image }: Streamer): Promise<Pod> {
  const { cri } = runtime
  const config = await podConfig(site, 'streams')
  const { podSandboxId } = await cri.runtime.runPodSandbox({ config })
  const container = containerConfig('main', image, ['sh', '-c', SERVERS])
  const containerId = await createContainer(cri, podSandboxId, config, container)
  await cri.runtime.startContainer({ containerId })
  return { cri, sandboxId: podSandboxId, containerId }
}

async function execute(pod: Pod, command: string, bytesIn: number): Promise<{ bytes: number; text: string }> {
  const { url } = await pod.cri.runtime.exec({
    containerId: pod.containerId,
    cmd: ['sh', '-c', command],
    stdin: bytesIn > 0,
    stdout: true,
  })
  const client = await dialStream(url, 'v4.channel.k8s.io')
  const error = client.open({ streamType: 'error' })
  const stdin = bytesIn > 0 ? client.open({ streamType: 'stdin' }) : undefined
  const { got } = client.open({ streamType: 'stdout' })
  if (stdin) {
    await client.send(stdin.id, bytesIn)
    client.end(stdin.id)
  }
  await Promise.all([got.ended, error.got.ended])
  client.socket.destroy()
  return got
}

/** Never half-closes: containerd gives the other direction one second from then on. */
async function forward(pod: Pod, port: number, bytesIn: number): Promise<{ bytes: number; text: string }> {
  const { url } = await pod.cri.runtime.portForward({ podSandboxId: pod.sandboxId })
  const client = await dialStream(url, 'portforward.k8s.io')
  const headers = { port: String(port), requestID: '0' }
  const error = client.open({ streamType: 'error', ...headers })
  client.end(error.id)
  const data = client.open({ streamType: 'data', ...headers })
  if (bytesIn > 0) await client.send(data.id, bytesIn)
  await data.got.ended
  client.socket.destroy()
  if (error.got.text !== '') throw new Error(error.got.text)
  return data.got
}

/** What is measured, by name. Each moves BYTES, and gives how many have arrived. */
const WORK: Record<string, (pod: Pod) => Promise<number>> = {
  'exec out': async (pod) => (await execute(pod, ZEROS, 0)).bytes,
  'exec in': async (pod) => Number((await execute(pod, TAKES, BYTES)).text),
  'port-forward out': async (pod) => (await forward(pod, OUT_PORT, 0)).bytes,
  'port-forward in': async (pod) => Number((await forward(pod, IN_PORT, BYTES)).text),
}

const TICKS_PER_SECOND = 100

/** Processor seconds of the daemon, and of its monitors or shims, so far. Children that ended count with who reaped them. */
async function processorSeconds({ site, runtime }: Streamer): Promise<number> {
  const pids = [runtime.pid, ...(await processesOf(site, [runtime.pid])).map(({ pid }) => pid)]
  let ticks = 0
  for (const pid of pids) {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    // utime, stime, and those of children that ended: of the daemon alone, for shims reap the container's processes.
    ticks += Number(fields[11] ?? 0) + Number(fields[12] ?? 0)
  }
  return ticks / TICKS_PER_SECOND
}

type Samples = Record<string, number[]>

const add = (samples: Samples, name: string, ...values: number[]): void => {
  samples[name] = [...(samples[name] ?? []), ...values]
}

const medians = (name: string, unit: Figure['unit'], samples: Samples): Figure => ({
  name,
  unit,
  values: Object.fromEntries(Object.entries(samples).map(([runtime, values]) => [runtime, percentile(values, 0.5)])),
})

interface Round {
  ms: number
  processorMs: number
  /** Milliseconds of each answer meanwhile. */
  latencies: number[]
}

async function measure(streamer: Streamer, pod: Pod, what: string): Promise<Round> {
  const work = WORK[what]
  if (!work) throw new Error(`there is no work "${what}"`)
  const probe = startProbe(streamer.runtime.program.socket)
  const [before, begin] = [await processorSeconds(streamer), performance.now()]
  const arrived = await work(pod).finally(() => probe.stop())
  const ms = performance.now() - begin
  if (arrived !== BYTES) throw new Error(`${what}, ${streamer.name}: ${arrived} bytes arrived instead of ${BYTES}`)
  const seconds = (await processorSeconds(streamer)) - before
  const speed = `${(BYTES / 1_000 / ms).toFixed(0)} MB/s, ${seconds.toFixed(2)} s of processor`
  console.error(`bench  ${what} ${streamer.name}: ${speed}`)
  return { ms, processorMs: 1_000 * seconds, latencies: await probe.stop() }
}

/** Smaller is better in all figures: milliseconds for 300 MiB, processor milliseconds, latencies. */
export async function benchStreaming(streamers: Streamer[], rounds: number): Promise<Figure[]> {
  const pods: [Streamer, Pod][] = []
  for (const streamer of streamers) pods.push([streamer, await startPod(streamer)])
  const figures: Figure[] = []
  const answers: Samples = {}
  for (const what of Object.keys(WORK)) {
    const [wall, processor]: [Samples, Samples] = [{}, {}]
    // The first round warms up.
    for (let round = -1; round < rounds; round++) {
      for (const [streamer, pod] of round % 2 === 0 ? pods : pods.toReversed()) {
        const { ms, processorMs, latencies } = await measure(streamer, pod, what)
        if (round < 0) continue
        add(wall, streamer.name, ms)
        add(processor, streamer.name, processorMs)
        add(answers, streamer.name, ...latencies)
      }
    }
    figures.push(medians(`${what}, 300 MiB`, 'ms', wall), medians('  processor time', 'ms', processor))
  }
  return [...figures, ...percentiles('Version while streaming', answers)]
}
