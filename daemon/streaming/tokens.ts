/**
 * Tokens of requests that wait for their client: whoever has one may use it once, within a minute, for what it was made. They
 * are kept by their hash, so that looking one up tells nothing about the others by the time it takes.
 */
import { createHash, randomBytes } from 'node:crypto'
import { RuntimeError } from '#proto/errors.ts'
import type { StreamRequest } from './session.ts'

const TOKEN_BYTES = 16
const LIFETIME_MS = 60_000
const MAX_WAITING = 1_000

const digest = (token: string): string => createHash('sha256').update(token).digest('base64')

export class Tokens {
  /** In the order in which they expire. */
  readonly #waiting = new Map<string, { request: StreamRequest; expiresAt: number }>()
  readonly #now: () => number

  /** @param now monotonic milliseconds */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /**
   * A fresh token: 32 hex digits.
   * @throws RuntimeError resource-exhausted when too many wait for their clients
   */
  issue(request: StreamRequest): string {
    this.#dropExpired()
    if (this.#waiting.size >= MAX_WAITING) {
      const what = `Cannot take another streaming request: ${MAX_WAITING} wait for their clients, each for a minute`
      throw new RuntimeError('resource-exhausted', what)
    }
    const token = randomBytes(TOKEN_BYTES).toString('hex')
    this.#waiting.set(digest(token), { request, expiresAt: this.#now() + LIFETIME_MS })
    return token
  }

  /** The request behind a token, which is spent by this, also when it is of another kind. */
  redeem(token: string, kind: StreamRequest['kind']): StreamRequest | undefined {
    this.#dropExpired()
    const key = digest(token)
    const found = this.#waiting.get(key)
    this.#waiting.delete(key)
    return found?.request.kind === kind ? found.request : undefined
  }

  clear(): void {
    this.#waiting.clear()
  }

  #dropExpired(): void {
    const now = this.#now()
    for (const [key, { expiresAt }] of this.#waiting) {
      if (expiresAt > now) return
      this.#waiting.delete(key)
    }
  }
}
