/**
 * Single flight for pulls (design D8): who asks for what is already being pulled waits for that. A caller that gives up
 * leaves the others alone; when nobody waits any more, the pull stops. What it had received stays for the next one.
 */

interface Flight<T> {
  readonly result: Promise<T>
  readonly abort: AbortController
  waiting: number
}

export class JoinPulls<T> {
  readonly #flights = new Map<string, Flight<T>>()

  /** Starts `pull` or joins the one running for `key`; `pull`'s own signal is aborted when the last caller has left. */
  async run(key: string, pull: (signal: AbortSignal) => Promise<T>, caller?: AbortSignal): Promise<T> {
    caller?.throwIfAborted()
    const flight = this.#flights.get(key) ?? this.#start(key, pull)
    flight.waiting++
    try {
      return await (caller ? untilAborted(flight.result, caller) : flight.result)
    } finally {
      if (--flight.waiting === 0) this.#leave(key, flight, caller)
    }
  }

  /** Stops all pulls and waits until they have stopped. */
  async stop(reason: unknown): Promise<void> {
    const flights = [...this.#flights.values()]
    for (const { abort } of flights) abort.abort(reason)
    await Promise.allSettled(flights.map(({ result }) => result))
  }

  #start(key: string, pull: (signal: AbortSignal) => Promise<T>): Flight<T> {
    const abort = new AbortController()
    const result = Promise.resolve().then(() => pull(abort.signal))
    const flight: Flight<T> = { result, abort, waiting: 0 }
    const forget = (): void => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key)
    }
    // Also keeps a failure that nobody waited for from being an unhandled one.
    result.then(forget, forget)
    this.#flights.set(key, flight)
    return flight
  }

  /** A caller that comes while this one is still stopping must not join it. */
  #leave(key: string, flight: Flight<T>, caller: AbortSignal | undefined): void {
    if (this.#flights.get(key) !== flight) return
    this.#flights.delete(key)
    flight.abort.abort(caller?.reason)
  }
}

const untilAborted = <T>(result: Promise<T>, signal: AbortSignal): Promise<T> =>
  new Promise((resolve, reject) => {
    const leave = (): void => reject(signal.reason)
    signal.addEventListener('abort', leave, { once: true })
    result.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave))
  })
