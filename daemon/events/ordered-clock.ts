/**
 * The time of what clients are told, in an order that always is the order in which it was so: no two moments are the same, and none is
 * before an earlier one, also when the node's clock is set back. The kubelet drops what seems older than what it has.
 */
import { nowNs } from '../clock.ts'

export class OrderedClock {
  readonly #read: () => bigint
  #last = 0n

  /** @param read nanoseconds since 1970 */
  constructor(read: () => bigint = nowNs) {
    this.#read = read
  }

  /** Nanoseconds since 1970. */
  now(): bigint {
    const now = this.#read()
    this.#last = now > this.#last ? now : this.#last + 1n
    return this.#last
  }
}
