/** Trying again: bounded, with growing pauses and jitter so that a thousand nodes do not come back in the same second. */

import { setTimeout as sleep } from 'node:timers/promises'
import type { Log } from '#proto/log.ts'
import { PassingFailure, sortFailure, unavailable } from './registry-error.ts'
import type { Timing } from './timing.ts'

export interface Retry {
  readonly timing: Timing
  readonly log: Log
  readonly signal: AbortSignal
}

/**
 * Runs `attempt` until it succeeds or fails for good.
 * @throws RuntimeError registry-unavailable after the last passing failure; the signal's reason when aborted
 */
export const retrying = async <T>(
  { timing, log, signal }: Retry,
  what: string,
  attempt: () => Promise<T>,
): Promise<T> => {
  for (let tries = 1; ; tries++) {
    signal.throwIfAborted()
    try {
      return await attempt()
    } catch (error) {
      signal.throwIfAborted()
      const failure = sortFailure(error, what)
      if (!(failure instanceof PassingFailure)) throw failure
      if (tries >= timing.attempts) throw unavailable(`${failure.message} (tried ${tries} times)`, failure)
      const ms = pauseMs(timing, tries, failure.retryAfterMs)
      log.info('Registry request failed, trying again', { what, failure: failure.message, tries, pauseMs: ms })
      await sleep(ms, undefined, { signal }).catch(() => signal.throwIfAborted())
    }
  }
}

/** Between half and all of the doubled pause; at least what the other side asked for. */
export const pauseMs = (
  timing: Timing,
  tries: number,
  retryAfterMs = 0,
  random: () => number = Math.random,
): number => {
  const full = Math.min(timing.firstPauseMs * 2 ** (tries - 1), timing.longestPauseMs)
  const jittered = full * (0.5 + random() / 2)
  return Math.round(Math.max(jittered, Math.min(retryAfterMs, timing.longestRetryAfterMs)))
}

/** Retry-After as seconds or date → milliseconds; undefined when absent, negative or nonsense. */
export const readRetryAfter = (header: string | undefined, nowMs: number): number | undefined => {
  const value = header?.trim()
  if (!value) return undefined
  const ms = /^\d{1,12}$/.test(value) ? Number(value) * 1000 : Date.parse(value) - nowMs
  return Number.isFinite(ms) && ms >= 0 ? ms : undefined
}
