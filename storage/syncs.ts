/**
 * Brings the file system of a storage to the disk: once for all who wait for it at the same time, and ahead of time while much is being written, so
 * that little is left in the end. The kernel tells of a failed write only once, so what one call was told counts for all who were writing then.
 */
import { closeSync, openSync } from 'node:fs'
import type { Linux } from '#linux/linux.ts'

/** What somebody writes who must know that it is on the disk before he gives it its name. */
export interface Unsynced {
  /** Resolves when all that was written by now is on the disk. Throws the error of any write or sync that failed since the beginning. */
  onDisk(): Promise<void>
}

/** Between two syncs that nobody waits for: others have data on this disk, too. */
const PAUSE_MS = 100

export class Syncs {
  readonly #linux: Pick<Linux, 'syncfs'>
  /** Open as long as the storage, and the only one that is asked: what failed before it was opened it would not be told. */
  readonly #fd: number
  /** Those who came since the sync that is running began. */
  #next: PromiseWithResolvers<void> | undefined
  /** One at a time: of two, either could be told of what concerns the other. */
  #running: Promise<void> | undefined
  #failures = 0
  #failure: unknown
  #isClosed = false
  #endedAt = Number.NEGATIVE_INFINITY

  constructor(root: string, linux: Pick<Linux, 'syncfs'>) {
    this.#linux = linux
    this.#fd = openSync(root, 'r')
  }

  /** To be called before the first write. */
  begin(): Unsynced {
    const before = this.#failures
    return {
      onDisk: async () => {
        await this.#another()
        if (this.#failures !== before) throw this.#failure
      },
    }
  }

  /** Much has been written: some of it had better go to the disk now. */
  ahead(): void {
    if (this.#running !== undefined || performance.now() - this.#endedAt < PAUSE_MS) return
    this.#another().catch(() => {})
  }

  /** What is running goes on: it may be that the disk does not answer. Idempotent. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    const end = (): void => closeSync(this.#fd)
    if (this.#running === undefined) end()
    else void this.#running.then(end)
  }

  /** One that begins from now on. */
  #another(): Promise<void> {
    this.#next ??= Promise.withResolvers()
    const { promise } = this.#next
    this.#running ??= this.#run()
    return promise
  }

  async #run(): Promise<void> {
    for (let group = this.#next; group !== undefined; group = this.#next) {
      this.#next = undefined
      try {
        await this.#linux.syncfs(this.#fd)
        group.resolve()
      } catch (error) {
        this.#failures++
        this.#failure = error
        group.reject(error)
      }
    }
    this.#running = undefined
    this.#endedAt = performance.now()
  }
}
