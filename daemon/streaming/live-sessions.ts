/**
 * The sessions that go on: each has one signal that ends it, whatever the reason (the client left, nothing moved for too
 * long, the daemon stops), and a clock that only data winds up again.
 */
import { RuntimeError } from '#proto/errors.ts'

export interface Session {
  /** Aborted once, with the reason, when the session has to end. */
  readonly signal: AbortSignal
  /** Resolves when the signal is aborted. */
  readonly aborted: Promise<void>
  /** Data went in or out. */
  moved(): void
  /** Ends it; the first reason stands. */
  abort(why: RuntimeError): void
  /** It is over. Nothing else happens to it, and draining does not wait for it. */
  [Symbol.dispose](): void
}

const spoken = (ms: number): string => (ms >= 60_000 ? `${Math.round(ms / 60_000)} minutes` : `${ms / 1_000} seconds`)

export class LiveSessions {
  readonly #live = new Set<Session>()
  #whenEmpty: () => void = () => {}

  get size(): number {
    return this.#live.size
  }

  /** @param idleMs how long nothing may move; at most 24 days */
  open(idleMs: number): Session {
    const controller = new AbortController()
    let movedAt = performance.now()
    const look = (): void => {
      const leftMs = idleMs - (performance.now() - movedAt)
      if (leftMs > 0) clock = setTimeout(look, leftMs)
      else session.abort(new RuntimeError('deadline-exceeded', `Nothing moved for ${spoken(idleMs)}`))
    }
    let clock = setTimeout(look, idleMs)
    const session: Session = {
      signal: controller.signal,
      aborted: new Promise((resolve) => controller.signal.addEventListener('abort', () => resolve(), { once: true })),
      moved: () => {
        movedAt = performance.now()
      },
      abort: (why) => controller.abort(why),
      [Symbol.dispose]: () => {
        clearTimeout(clock)
        this.#live.delete(session)
        if (this.#live.size === 0) this.#whenEmpty()
      },
    }
    this.#live.add(session)
    return session
  }

  abortAll(why: RuntimeError): void {
    for (const session of this.#live) session.abort(why)
  }

  /** Whether all were over within `ms`. One caller at a time. */
  async empty(ms: number): Promise<boolean> {
    if (this.#live.size === 0) return true
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms)
    })
    const empty = new Promise<void>((resolve) => {
      this.#whenEmpty = resolve
    })
    await Promise.race([late, empty])
    clearTimeout(timer)
    return this.#live.size === 0
  }
}
