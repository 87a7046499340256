/** How many billionths of a processor something uses, out of a counter that only grows, between one look and the next. */

interface Look {
  /** Milliseconds on a clock that is never set. */
  readonly atMs: number
  /** Nanoseconds of processor time so far. */
  readonly usageNs: number
}

/** Over less than this the rate is that of the looks before: two clients that ask one after the other get the same. */
const MIN_WINDOW_MS = 1_000
/** A look that is older tells more of the past than of now. */
const MAX_WINDOW_MS = 5 * 60_000
/** Over less than this a single time slice of the scheduler would be much of the answer. */
const SHORTEST_MS = 100

export class Rate {
  #base: Look | undefined
  #rate: number | undefined

  /**
   * The rate after this look; undefined when there is nothing to compare with, so that one has to look again a moment later.
   * @param bornMs when the counter stood at 0, if that is known
   */
  after(look: Look, bornMs?: number): number | undefined {
    const base = this.#comparable(look) ?? atBirth(look, bornMs)
    if (base === undefined) {
      this.#base = look
      this.#rate = undefined
      return undefined
    }
    const windowMs = look.atMs - base.atMs
    if (windowMs < (this.#rate === undefined ? SHORTEST_MS : MIN_WINDOW_MS)) return this.#rate
    this.#base = look
    this.#rate = Math.round(((look.usageNs - base.usageNs) * 1_000) / windowMs)
    return this.#rate
  }

  /** A counter that has gone back is another one. */
  #comparable({ atMs, usageNs }: Look): Look | undefined {
    const base = this.#base
    return base !== undefined && atMs - base.atMs <= MAX_WINDOW_MS && usageNs >= base.usageNs ? base : undefined
  }
}

const atBirth = ({ atMs }: Look, bornMs: number | undefined): Look | undefined =>
  bornMs !== undefined && atMs - bornMs <= MAX_WINDOW_MS && atMs - bornMs >= SHORTEST_MS
    ? { atMs: bornMs, usageNs: 0 }
    : undefined
