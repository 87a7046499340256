/** At most so many at once, first come first served. */

export class Slots {
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor(count: number) {
    this.#free = count
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    using _ = this.#taken()
    return await work()
  }

  /** One that is free at this moment, until it is disposed of. */
  tryTake(): Disposable | undefined {
    if (this.#free === 0) return undefined
    this.#free--
    return this.#taken()
  }

  #taken(): Disposable {
    const giveBack = (): void => {
      const next = this.#waiting.shift()
      if (next) next()
      else this.#free++
    }
    return { [Symbol.dispose]: giveBack }
  }
}
