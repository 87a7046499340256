/** How long the registry client waits and how often it tries: one value, so that tests can be quick. Times in milliseconds. */

export interface Timing {
  /** Until the request is on its way: name look-up, TCP, TLS. */
  readonly connectMs: number
  /** From the request sent to the first line of the answer. */
  readonly responseMs: number
  /** A body must bring `leastBytes` in each such span of waiting. Time that we spend hashing or writing does not count. */
  readonly idleMs: number
  readonly leastBytes: number
  /** For one small document as a whole, so that nobody can trickle a manifest for hours. */
  readonly documentMs: number
  /** Tries per request, the first included; blobs that move forward start counting anew. */
  readonly attempts: number
  /** Pause before the second try; doubles, with jitter, up to `longestPauseMs`. */
  readonly firstPauseMs: number
  readonly longestPauseMs: number
  /** A Retry-After longer than this is cut to it. */
  readonly longestRetryAfterMs: number
}

export const defaultTiming: Timing = {
  connectMs: 30_000,
  responseMs: 60_000,
  idleMs: 60_000,
  leastBytes: 4096,
  documentMs: 120_000,
  attempts: 5,
  firstPauseMs: 500,
  longestPauseMs: 8_000,
  longestRetryAfterMs: 30_000,
}
