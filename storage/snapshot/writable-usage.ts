/**
 * What containers wrote, for those who must not wait: the counters of the file system, or the last answer with its time, and a
 * measurement in the background when that has become old. One walk at a time, with pauses nine times as long, so that all of them take a tenth of a processor at most.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { addUsage, NO_USAGE, type Usage } from '../tree/measure-tree.ts'

/** Allocated bytes and inodes, and when that was so. */
export interface MeasuredUsage extends Usage {
  /** Milliseconds since 1970. */
  readonly atMs: number
}

export interface WritableUsageParts {
  /** What the file system itself counts; undefined where it does not. */
  readonly counted?: (id: string) => Usage | undefined
  /** Walks the writable layer. Slow. Throws for one that is gone. */
  readonly measure: (id: string, signal: AbortSignal) => Promise<Usage>
  readonly log: Log
  /** An answer that is older is measured again once somebody has asked for it. */
  readonly staleMs?: number
}

interface Known {
  usage: MeasuredUsage | undefined
  /** Nothing changes any more, so one measurement is for good. */
  final: boolean
}

const STALE_MS = 30_000
const PAUSE_PER_WALK = 9
const MIN_PAUSE_MS = 20

export class WritableUsage {
  readonly #parts: WritableUsageParts
  readonly #known = new Map<string, Known>()
  readonly #wanted = new Set<string>()
  readonly #closed = new AbortController()
  #running: Promise<void> | undefined

  constructor(parts: WritableUsageParts) {
    this.#parts = parts
  }

  /** `usage`: what is known already, of a layer that was just made. Otherwise it is measured soon. */
  add(id: string, usage?: Usage): void {
    this.#known.set(id, { usage: usage && { ...usage, atMs: Date.now() }, final: false })
    if (usage === undefined && this.#parts.counted?.(id) === undefined) this.#want(id)
  }

  remove(id: string): void {
    this.#known.delete(id)
    this.#wanted.delete(id)
  }

  /** Whether somebody may be writing: when nobody does any more, it is measured once again. */
  setWritten(id: string, isWritten: boolean): void {
    const known = this.#known.get(id)
    if (known === undefined || known.final === !isWritten) return
    known.final = !isWritten
    if (this.#parts.counted?.(id) === undefined) this.#want(id)
  }

  /** At once. Undefined: not known, or not measured yet. */
  of(id: string): MeasuredUsage | undefined {
    const known = this.#known.get(id)
    if (known === undefined) return undefined
    const counted = this.#parts.counted?.(id)
    if (counted !== undefined) return { ...counted, atMs: Date.now() }
    if (!known.final && this.#isStale(known.usage)) this.#want(id)
    return known.usage
  }

  /** The sum, at once. */
  total(): Usage {
    let sum = NO_USAGE
    for (const id of this.#known.keys()) sum = addUsage(sum, this.of(id) ?? NO_USAGE)
    return sum
  }

  /** Waits for a measurement of its own. */
  async measure(id: string): Promise<MeasuredUsage> {
    const known = this.#known.get(id)
    const usage = { ...(await this.#parts.measure(id, this.#closed.signal)), atMs: Date.now() }
    if (known !== undefined) known.usage = usage
    return usage
  }

  async close(): Promise<void> {
    this.#closed.abort()
    this.#wanted.clear()
    await this.#running
  }

  #isStale(usage: MeasuredUsage | undefined): boolean {
    return usage === undefined || Math.abs(Date.now() - usage.atMs) > (this.#parts.staleMs ?? STALE_MS)
  }

  #want(id: string): void {
    if (this.#closed.signal.aborted) return
    this.#wanted.add(id)
    this.#running ??= this.#work().finally(() => {
      this.#running = undefined
    })
  }

  async #work(): Promise<void> {
    const { signal } = this.#closed
    // Sets are walked in the order of insertion: who has waited longest comes first.
    for (const id of this.#wanted) {
      this.#wanted.delete(id)
      const begun = Date.now()
      try {
        await this.measure(id)
      } catch (error) {
        if (!signal.aborted && this.#known.has(id))
          this.#parts.log.warn('Cannot measure what a container wrote', { id, why: messageOf(error) })
      }
      const pause = Math.max(MIN_PAUSE_MS, (Date.now() - begun) * PAUSE_PER_WALK)
      await sleep(pause, undefined, { signal, ref: false }).catch(() => {})
    }
  }
}
