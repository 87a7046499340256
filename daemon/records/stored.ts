/** One object of a record store: an immutable record, and a status that changes in one place. */
import { isDiskFault } from '#storage/disk-errors.ts'

export interface UpdateOptions {
  /** Whether the new status must survive a power cut before the update returns. */
  readonly durable?: boolean
  /**
   * Whether it is published even if the disk does not take it now (full, read-only, broken); then it is written later. For
   * what has happened anyway, and what the next daemon would find out for itself.
   */
  readonly orLater?: boolean
}

/** One object: an immutable record, and a status that changes in one place. */
export class Stored<R, S> {
  readonly record: R
  #status: S
  #tail: Promise<unknown> = Promise.resolve()
  readonly #write: (status: S, durable: boolean) => Promise<void>
  readonly #published: (before: S) => void
  readonly #owe: (error: unknown) => void

  constructor(
    record: R,
    status: S,
    write: (status: S, durable: boolean) => Promise<void>,
    published: (before: S) => void = () => {},
    owe: (error: unknown) => void = (error) => {
      throw error
    },
  ) {
    this.record = record
    this.#status = status
    this.#write = write
    this.#published = published
    this.#owe = owe
  }

  /** The status as of now: an immutable value. */
  get status(): S {
    return this.#status
  }

  /**
   * Compute the next status from the current one, write it, then publish it; one update after the other. Returning the
   * current status unchanged writes nothing. If the write fails nothing has changed and the error is thrown.
   */
  update(next: (current: S) => S, options: UpdateOptions = {}): Promise<S> {
    const run = this.#tail.then(async () => {
      const status = next(this.#status)
      if (status === this.#status) return status
      await this.#writeNowOrLater(status, options)
      const before = this.#status
      this.#status = status
      this.#published(before)
      return status
    })
    this.#tail = run.catch(() => {})
    return run
  }

  async #writeNowOrLater(status: S, { durable = false, orLater = false }: UpdateOptions): Promise<void> {
    try {
      await this.#write(status, durable)
    } catch (error) {
      if (!orLater || !isDiskFault(error)) throw error
      this.#owe(error)
    }
  }

  /** When no write of it is under way. */
  async settled(): Promise<void> {
    await this.#tail
  }

  /** Writes the status again, as it is. */
  rewrite(): Promise<void> {
    const run = this.#tail.then(() => this.#write(this.#status, true))
    this.#tail = run.catch(() => {})
    return run
  }
}
