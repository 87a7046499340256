/** What the steps of a recovery have in common: a name, a bounded time that the start waits for them, and no way to be fatal. */
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '#proto/errors.ts'
import type { Parts } from '../parts.ts'

export interface Step<Needs> {
  readonly name: string
  /** Whether serving may begin before the step has ended: what it does is of no consequence for others. */
  readonly mayLast?: boolean
  /** @returns how many objects it changed */
  run(needs: Needs): Promise<number>
}

/** How long the start waits for a step that may go on without it: one helper that hangs must not keep the node away. */
const promptlyMs = 3_000

/** One after the other, each to its end or to its time; what a step throws is logged. */
export async function runSteps<Needs extends Pick<Parts, 'bootId' | 'log' | 'operations'>>(
  needs: Needs,
  steps: readonly Step<Needs>[],
): Promise<void> {
  using operation = needs.operations.begin('Restore', needs.bootId)
  for (const step of steps) {
    operation.enter(step.name)
    const running = runStep(needs, step)
    const { promise: late, end } = after(promptlyMs)
    if ((await Promise.race([running, ...(step.mayLast ? [late] : [])])) === 'late')
      needs.log.warn(`Restoring goes on in the background: ${step.name}`)
    end()
  }
}

async function runStep<Needs extends Pick<Parts, 'log'>>(needs: Needs, { name, run }: Step<Needs>): Promise<void> {
  const began = performance.now()
  try {
    const changed = await run(needs)
    const fields = { changed, ms: Math.round(performance.now() - began) }
    needs.log[changed > 0 ? 'info' : 'debug'](`Restored: ${name}`, fields)
  } catch (cause) {
    needs.log.error(`Cannot restore: ${name}`, { why: messageOf(cause), cause })
  }
}

function after(ms: number): { promise: Promise<'late'>; end(): void } {
  const ended = new AbortController()
  const promise = sleep(ms, 'late' as const, { signal: ended.signal }).catch(() => 'late' as const)
  return { promise, end: () => ended.abort() }
}

const longestPauseMs = 60_000

/** Try until it works, ever more rarely: for what must not be left half undone because a helper fails just now. */
export async function insist(log: Parts['log'], what: string, id: string, act: () => Promise<void>): Promise<void> {
  for (let pauseMs = 1_000; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
    try {
      return await act()
    } catch (cause) {
      log.error(`Cannot ${what} yet; trying again`, { id, why: messageOf(cause), pauseMs, cause })
      await sleep(pauseMs, undefined, { ref: false })
    }
  }
}
