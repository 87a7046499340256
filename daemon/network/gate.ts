/**
 * Lets many through at a time, or one alone. CNI: GC must not run together with ADD or DEL. Those who are many never wait for
 * one who waits to be alone, only for one who is: a hanging plugin of one pod must not keep the others out.
 */

export class Gate {
  #inside = 0
  #alone: Promise<void> | undefined
  #emptied = Promise.withResolvers<void>()

  /** Enters as one of many; leaves by disposal. */
  async enter(): Promise<Disposable> {
    while (this.#alone !== undefined) await this.#alone
    this.#inside += 1
    return { [Symbol.dispose]: () => this.#leave() }
  }

  #leave(): void {
    this.#inside -= 1
    if (this.#inside > 0) return
    this.#emptied.resolve()
    this.#emptied = Promise.withResolvers()
  }

  /** Waits for a moment with nobody inside and does this then. The signal ends the waiting only. */
  async alone(work: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const given = Promise.withResolvers<never>()
    const giveUp = () => given.reject(signal.reason)
    signal.addEventListener('abort', giveUp, { once: true })
    try {
      signal.throwIfAborted()
      while (this.#inside > 0 || this.#alone !== undefined) {
        await Promise.race([this.#alone ?? this.#emptied.promise, given.promise])
      }
    } finally {
      signal.removeEventListener('abort', giveUp)
      given.promise.catch(() => {})
    }
    const done = Promise.withResolvers<void>()
    this.#alone = done.promise
    try {
      await work()
    } finally {
      this.#alone = undefined
      done.resolve()
    }
  }
}
