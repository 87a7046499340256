/**
 * A thread that asks a runtime for its version every few milliseconds and keeps how long each answer took: how responsive a
 * daemon is while it streams. A thread of its own, for the benchmark's is busy with the streams.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { connectCri } from '../cri-client.ts'

const PERIOD_MS = 5

/** Milliseconds of each answer. */
export interface Probe {
  /** May be said again. */
  stop(): Promise<number[]>
}

export function startProbe(socket: string): Probe {
  const worker = new Worker(new URL(import.meta.url), { workerData: { socket } })
  const times = new Promise<number[]>((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  return {
    stop() {
      worker.postMessage('stop')
      return times
    },
  }
}

async function probe(socket: string): Promise<void> {
  const cri = connectCri(socket)
  const times: number[] = []
  let isStopped = false
  parentPort?.once('message', () => {
    isStopped = true
  })
  while (!isStopped) {
    const begin = performance.now()
    await cri.runtime.version({})
    times.push(performance.now() - begin)
    await sleep(PERIOD_MS)
  }
  parentPort?.postMessage(times)
  process.exit(0)
}

if (!isMainThread) await probe(String(Reflect.get(Object(workerData), 'socket')))
