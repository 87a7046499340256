/** What a runtime lets others feel while it is busy: how long a call waits that needs no work, and how long its event loop stood still. */

import { setTimeout as sleep } from 'node:timers/promises'
import type { Runtime } from '../runtime.ts'

export interface Felt {
  readonly slowestCallMs: number
  /** As the daemon itself says; only cricket has one. */
  readonly loopLagMs?: number
}

const PAUSE_MS = 10

/** Asks for the version again and again until it is told to stop. */
export function watchRuntime(runtime: Runtime): { stop(): Promise<Felt> } {
  let [going, slowestCallMs] = [true, 0]
  const calls = (async () => {
    for (; going; await sleep(PAUSE_MS)) {
      const began = performance.now()
      await runtime.cri.runtime.version({})
      slowestCallMs = Math.max(slowestCallMs, performance.now() - began)
    }
  })()
  return {
    stop: async () => {
      going = false
      await calls
      const { info } = await runtime.cri.runtime.status({ verbose: true })
      if (info.eventLoop === undefined) return { slowestCallMs }
      return { slowestCallMs, loopLagMs: Number(JSON.parse(info.eventLoop).maxMs) }
    },
  }
}
