/**
 * Detachments that failed. Each is tried again in the background, with growing pauses, until it is done: an address is given
 * back even when nobody asks any more, and a plugin that fails for good keeps nobody from going on.
 */
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'

const FIRST_PAUSE_MS = 1000
const LONGEST_PAUSE_MS = 5 * 60 * 1000

/** How many are tried at a time: hanging plugins must not pile up. */
const AT_ONCE = 4

/** What Status shows of one. */
export interface NetworkDebt {
  sandboxId: string
  /** In a row, those of callers counted in. */
  failures: number
  lastError: string
}

interface Debt {
  failures: number
  lastError: string
  timer: NodeJS.Timeout | undefined
}

export interface DebtsOptions {
  /** Tries once. Its own outcome is reported by `failed` and `paid`, whoever started it. */
  pay(sandboxId: string): Promise<void>
  log: Log
  firstPauseMs?: number
  longestPauseMs?: number
}

export class Debts {
  readonly #debts = new Map<string, Debt>()
  readonly #options: Required<DebtsOptions>
  #paying = 0
  #isClosed = false

  constructor(options: DebtsOptions) {
    this.#options = { firstPauseMs: FIRST_PAUSE_MS, longestPauseMs: LONGEST_PAUSE_MS, ...options }
  }

  /** A try has failed: the next one comes by itself. */
  failed(sandboxId: string, error: unknown): void {
    const debt = this.#debtOf(sandboxId)
    debt.failures += 1
    debt.lastError = messageOf(error)
    const { firstPauseMs, longestPauseMs } = this.#options
    this.#schedule(sandboxId, Math.min(longestPauseMs, firstPauseMs * 2 ** (debt.failures - 1)))
  }

  paid(sandboxId: string): void {
    const debt = this.#debts.get(sandboxId)
    if (debt === undefined) return
    clearTimeout(debt.timer)
    this.#debts.delete(sandboxId)
    if (debt.failures > 0)
      this.#options.log.info('Detached in the end', { sandbox: sandboxId, failures: debt.failures })
  }

  /** Nobody asks for this detachment any more: try it soon. */
  take(sandboxId: string): void {
    this.#debtOf(sandboxId)
    this.#schedule(sandboxId, 0)
  }

  failuresOf(sandboxId: string): number {
    return this.#debts.get(sandboxId)?.failures ?? 0
  }

  list(): NetworkDebt[] {
    return [...this.#debts].map(([sandboxId, { failures, lastError }]) => ({ sandboxId, failures, lastError }))
  }

  close(): void {
    this.#isClosed = true
    for (const { timer } of this.#debts.values()) clearTimeout(timer)
  }

  #debtOf(sandboxId: string): Debt {
    const debt = this.#debts.get(sandboxId) ?? { failures: 0, lastError: '', timer: undefined }
    this.#debts.set(sandboxId, debt)
    return debt
  }

  #schedule(sandboxId: string, ms: number): void {
    const debt = this.#debts.get(sandboxId)
    if (debt === undefined || this.#isClosed) return
    clearTimeout(debt.timer)
    debt.timer = setTimeout(() => void this.#pay(sandboxId), ms).unref()
  }

  async #pay(sandboxId: string): Promise<void> {
    if (this.#paying >= AT_ONCE) return this.#schedule(sandboxId, this.#options.firstPauseMs)
    this.#paying += 1
    try {
      await this.#options.pay(sandboxId)
    } catch (error) {
      this.#options.log.warn('Cannot detach a sandbox, try again later', {
        sandbox: sandboxId,
        failures: this.failuresOf(sandboxId),
        why: messageOf(error),
      })
    } finally {
      this.#paying -= 1
    }
  }
}
