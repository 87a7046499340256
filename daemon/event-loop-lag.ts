/**
 * How long the event loop stood still while images were brought here: nobody is answered meanwhile. Measured by a fast timer, which therefore runs
 * only while there is such work; an idle daemon has none.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'

/** Times between two turns of the measuring timer, so never less than its period of 5 ms, in milliseconds. */
export interface LoopLag {
  readonly turns: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
}

const PERIOD_MS = 5
const NS_PER_MS = 1e6
/** What is done in the same turn as the end of the work belongs to it. */
const AFTERMATH_MS = 4 * PERIOD_MS

export class EventLoopLag {
  readonly #delays = monitorEventLoopDelay({ resolution: PERIOD_MS })
  #holders = 0
  #ending: NodeJS.Timeout | undefined
  #worstNs = 0

  /** Measures until disposed of. What was measured before is forgotten when nobody else was at it. */
  measure(): Disposable {
    if (this.#holders++ === 0) this.#begin()
    return {
      [Symbol.dispose]: () => {
        if (--this.#holders === 0) this.#ending = setTimeout(() => this.#end(), AFTERMATH_MS).unref()
      },
    }
  }

  /** Of the work under way, or else of the last; and the longest standstill of all since the start. */
  read(): LoopLag & { readonly worstMs: number } {
    const { count, max } = this.#delays
    const has = count > 0
    return {
      turns: count,
      p50Ms: has ? milliseconds(this.#delays.percentile(50)) : 0,
      p99Ms: has ? milliseconds(this.#delays.percentile(99)) : 0,
      maxMs: milliseconds(has ? max : 0),
      worstMs: milliseconds(Math.max(this.#worstNs, has ? max : 0)),
    }
  }

  #begin(): void {
    if (this.#ending !== undefined) this.#end()
    this.#delays.reset()
    this.#delays.enable()
  }

  #end(): void {
    clearTimeout(this.#ending)
    this.#ending = undefined
    this.#delays.disable()
    if (this.#delays.count > 0) this.#worstNs = Math.max(this.#worstNs, this.#delays.max)
  }
}

const milliseconds = (ns: number): number => Math.round(ns / NS_PER_MS)
