/**
 * Who could not be reached a moment ago is asked after the others, so that one dead mirror does not cost every pull its
 * whole patience. Nobody is left out for it.
 */

import type { Endpoint } from '../registries/route.ts'

const FORGET_MS = 30_000

export class Reachability {
  readonly #failedAtMs = new Map<string, number>()
  readonly #now: () => number

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  fails({ origin }: Endpoint): void {
    this.#failedAtMs.set(origin, this.#now())
  }

  works({ origin }: Endpoint): void {
    this.#failedAtMs.delete(origin)
  }

  /** The same servers; a plain twin stays behind the one that it stands for. */
  lastResortLast<T extends { readonly endpoint: Endpoint }>(servers: readonly T[]): T[] {
    const failed = (server: T, index: number): boolean => {
      const asked = server.endpoint.isPlainTwin ? (servers[index - 1] ?? server) : server
      return this.#hasFailed(asked.endpoint)
    }
    return [...servers.filter((server, index) => !failed(server, index)), ...servers.filter(failed)]
  }

  #hasFailed({ origin }: Endpoint): boolean {
    const at = this.#failedAtMs.get(origin)
    if (at === undefined) return false
    if (this.#now() - at < FORGET_MS) return true
    this.#failedAtMs.delete(origin)
    return false
  }
}
