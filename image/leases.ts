/**
 * Keeps garbage collection away from what a running pull counts on. A pull first takes a lease, then waits until a
 * collection that may have begun before is over, and only then looks what is there; a collection that begins later sees
 * the lease.
 */

import type { Digest } from '#storage/digest.ts'

export class Leases {
  readonly #held = new Set<ReadonlySet<Digest>>()
  #collection: Promise<unknown> | undefined

  /** Everything that somebody counts on now. */
  get digests(): Digest[] {
    return [...this.#held].flatMap((held) => [...held])
  }

  /** `using lease = leases.take()`; then `await lease.add(...)` before looking for those digests in a store. */
  take(): Lease {
    const held = new Set<Digest>()
    this.#held.add(held)
    return {
      add: async (digests) => {
        for (const digest of digests) held.add(digest)
        while (this.#collection) await this.#collection.catch(() => {})
      },
      [Symbol.dispose]: () => {
        this.#held.delete(held)
      },
    }
  }

  /** Runs one collection at a time; `collect` must read `digests` before its first wait. */
  async collecting(collect: () => Promise<void>): Promise<void> {
    while (this.#collection) await this.#collection.catch(() => {})
    this.#collection = collect().finally(() => {
      this.#collection = undefined
    })
    await this.#collection
  }
}

export interface Lease extends Disposable {
  add(digests: Iterable<Digest>): Promise<void>
}
