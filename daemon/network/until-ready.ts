/** Waiting for a network to become ready, for a bounded time. */
import { setTimeout as sleep } from 'node:timers/promises'
import { RuntimeError } from '#proto/errors.ts'
import type { NetworkReady } from './watch-config.ts'

/** It is asked from memory, so asking often costs nothing. */
const ASK_EVERY_MS = 100

/** @throws RuntimeError failed-precondition with the reason of the end, or the signal's reason */
export const untilReady = async (ready: () => NetworkReady, waitMs: number, signal?: AbortSignal): Promise<void> => {
  const deadline = performance.now() + waitMs
  for (;;) {
    signal?.throwIfAborted()
    const now = ready()
    if (now.ok) return
    if (performance.now() >= deadline) {
      throw new RuntimeError('failed-precondition', `Pod network is not ready: ${now.reason}`)
    }
    await sleep(ASK_EVERY_MS, undefined, { ...(signal && { signal }) }).catch(() => {})
  }
}
