/** One operation at a time per key, first come first served; waiting can be given up, holding ends by disposal. */

interface Waiter {
  grant(): void
}

/** `using _ = await locks.take(id, signal)`. Keys nobody holds take no memory. */
export class KeyedLock {
  readonly #queues = new Map<string, Waiter[]>()

  /** Resolves once the key is ours. Rejects with the signal's reason when aborted while waiting. */
  async take(key: string, signal?: AbortSignal): Promise<Disposable> {
    signal?.throwIfAborted()
    const queue = this.#queues.get(key)
    if (queue === undefined) this.#queues.set(key, [])
    else await this.#wait(queue, signal)
    return this.#held(key)
  }

  isHeld(key: string): boolean {
    return this.#queues.has(key)
  }

  #wait(queue: Waiter[], signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        queue.splice(queue.indexOf(waiter), 1)
        reject(signal?.reason)
      }
      const waiter: Waiter = {
        grant: () => {
          signal?.removeEventListener('abort', giveUp)
          resolve()
        },
      }
      queue.push(waiter)
      signal?.addEventListener('abort', giveUp, { once: true })
    })
  }

  #held(key: string): Disposable {
    let released = false
    return {
      [Symbol.dispose]: () => {
        if (released) return
        released = true
        const next = this.#queues.get(key)?.shift()
        if (next === undefined) this.#queues.delete(key)
        else next.grant()
      },
    }
  }
}
