/**
 * Writes that the disk refused for what has happened all the same: a container has ended, a pod has been stopped. A full disk
 * must not hide that, nor keep the pods from going whose end would make room. They are tried again until the disk takes them.
 */
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'

const firstRetryMs = 1_000
const longestRetryMs = 30_000

export class OwedWrites<Id extends string> {
  readonly #owed = new Map<Id, () => Promise<void>>()
  readonly #noun: string
  readonly #log: Log
  #timer: NodeJS.Timeout | undefined

  constructor(noun: string, log: Log) {
    this.#noun = noun
    this.#log = log
  }

  /** Call `write` until it succeeds or is forgotten; it writes what is true by then. */
  add(id: Id, write: () => Promise<void>, why: unknown): void {
    if (!this.#owed.has(id))
      this.#log.error(`The disk does not take the status of a ${this.#noun}; going on without`, {
        id,
        why: messageOf(why),
      })
    this.#owed.set(id, write)
    this.#timer ??= this.#schedule(firstRetryMs)
  }

  /** It has been written by somebody else, or is to be written no more. */
  forget(id: Id): void {
    this.#owed.delete(id)
    if (this.#owed.size > 0) return
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #schedule(waitMs: number): NodeJS.Timeout {
    const timer = setTimeout(() => void this.#retry(Math.min(waitMs * 2, longestRetryMs)), waitMs)
    timer.unref()
    return timer
  }

  async #retry(nextMs: number): Promise<void> {
    for (const [id, write] of [...this.#owed]) {
      if (!this.#owed.has(id)) continue
      try {
        await write()
        this.#log.info(`The disk took the status of a ${this.#noun}`, { id })
        this.forget(id)
      } catch (error) {
        this.#log.debug(`The disk still does not take the status of a ${this.#noun}`, { id, why: messageOf(error) })
      }
    }
    if (this.#owed.size > 0) this.#timer = this.#schedule(nextMs)
  }
}
