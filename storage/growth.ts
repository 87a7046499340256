/** A file that somebody writes while somebody else reads it already: how much of it is there. */

export class Growth {
  /** Bytes of the whole. */
  readonly size: number
  #available: number
  #failure: { readonly error: unknown } | undefined
  readonly #listeners = new Set<() => void>()

  constructor(size: number, available = 0) {
    this.size = size
    this.#available = available
  }

  get available(): number {
    return this.#available
  }

  get isWhole(): boolean {
    return this.#available >= this.size
  }

  /** Why nothing more will come. */
  get failure(): { readonly error: unknown } | undefined {
    return this.#failure
  }

  /** The first `bytes` are there; what has been there before stays. */
  reached(bytes: number): void {
    if (bytes <= this.#available) return
    this.#available = bytes
    this.#tell()
  }

  fail(error: unknown): void {
    this.#failure ??= { error }
    this.#tell()
  }

  /** Called after each change until disposal. */
  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  /** Resolves when there is something to read, or all of nothing; rejects when there will not be. */
  begun(): Promise<void> {
    return this.#until(() => this.#available > 0 || this.isWhole)
  }

  /** Resolves when the whole is there, rejects when it will not be. */
  whole(): Promise<void> {
    return this.#until(() => this.isWhole)
  }

  async #until(isSo: () => boolean): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    using _ = this.onChange(() => {
      if (isSo() || this.#failure !== undefined) resolve()
    })
    if (!isSo() && this.#failure === undefined) await promise
    if (!isSo()) throw this.#failure?.error
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener()
  }
}
