/** Wall-clock time as the CRI wants it. */

/** Nanoseconds since the epoch; of millisecond resolution. */
export const nowNs = (): bigint => BigInt(Date.now()) * 1_000_000n
