/**
 * Looks that make certain what notices only make quick: each is made at most every so often, and only after somebody has called. A daemon
 * that nobody calls does nothing, and nobody is there to be told something stale.
 */

/** @returns whether to look once more, though nobody may call */
export type Look = () => unknown

/** Has a look repeated. @returns how to end it */
export type Repeat = (look: Look) => () => void

interface Repeated {
  readonly everyMs: number
  readonly look: Look
  timer: NodeJS.Timeout | undefined
}

export class SlowLooks {
  readonly #all = new Set<Repeated>()

  /** Looks so long after a call, whatever is called meanwhile; again as long as the look says `true`. */
  every(everyMs: number): Repeat {
    return (look) => {
      const repeated: Repeated = { everyMs, look, timer: undefined }
      this.#all.add(repeated)
      return () => {
        clearTimeout(repeated.timer)
        this.#all.delete(repeated)
      }
    }
  }

  /** Somebody calls. */
  called(): void {
    for (const repeated of this.#all) if (repeated.timer === undefined) arm(repeated)
  }

  /** How many looks are due: none where nobody has called for a while. */
  get due(): number {
    return [...this.#all].filter(({ timer }) => timer !== undefined).length
  }
}

function arm(repeated: Repeated): void {
  repeated.timer = setTimeout(() => {
    repeated.timer = undefined
    if (repeated.look() === true) arm(repeated)
  }, repeated.everyMs).unref()
}
