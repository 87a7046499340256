/** Joins callers who want the same thing at the same time (design D8): the work runs once, under its own signal, and goes on when callers leave. */

interface Flight<T> {
  readonly result: Promise<T>
  readonly abort: AbortController
}

export class SingleFlight<T> {
  readonly #flights = new Map<string, Flight<T>>()

  /**
   * Starts `operation`, or joins the one running for `key`, and gives its result. `callerSignal` ends this caller's
   * waiting only; the operation's own signal is aborted by `abortAll`.
   */
  run(key: string, operation: (signal: AbortSignal) => Promise<T>, callerSignal?: AbortSignal): Promise<T> {
    if (callerSignal?.aborted) return Promise.reject(callerSignal.reason)
    const flight = this.#flights.get(key) ?? this.#start(key, operation)
    return callerSignal === undefined ? flight.result : untilAborted(flight.result, callerSignal)
  }

  has(key: string): boolean {
    return this.#flights.has(key)
  }

  /** Aborts every running operation and waits until all have ended. */
  async abortAll(reason?: unknown): Promise<void> {
    const flights = [...this.#flights.values()]
    for (const { abort } of flights) abort.abort(reason)
    await Promise.allSettled(flights.map(({ result }) => result))
  }

  #start(key: string, operation: (signal: AbortSignal) => Promise<T>): Flight<T> {
    const abort = new AbortController()
    const result = (async () => operation(abort.signal))().finally(() => this.#flights.delete(key))
    // A caller may leave before the end: its flight then fails with nobody listening, which is not a crash.
    result.catch(() => {})
    const flight = { result, abort }
    this.#flights.set(key, flight)
    return flight
  }
}

/** Waits no longer than the signal lets it; the work goes on. */
export const untilAborted = <T>(result: Promise<T>, signal: AbortSignal): Promise<T> =>
  new Promise((resolve, reject) => {
    if (signal.aborted) reject(signal.reason)
    const leave = (): void => reject(signal.reason)
    signal.addEventListener('abort', leave, { once: true })
    result.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave))
  })
