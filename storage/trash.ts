/**
 * Removal in two steps: a rename that is done at once, then the slow deletion in a worker. In between the renames are synced:
 * a power cut that kept deletions but not the rename before them would leave half a tree where a whole one was.
 */
import { randomBytes } from 'node:crypto'
import { readdir, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import type { Log } from '#proto/log.ts'
import { syncDirectory } from './sync-directory.ts'
import type { WorkerPool } from './tar/worker-pool.ts'

/** Removals come in bursts; one job takes them all. */
const GATHER_MS = 300

export class Trash {
  readonly #directory: string
  readonly #workers: WorkerPool
  readonly #log: Log
  /** Directories that something was taken from since the last deletion. */
  #sources = new Set<string>()
  #timer: NodeJS.Timeout | undefined
  /** How many trees an earlier process left half-made or half-removed. */
  found = 0
  #running: Promise<void> = Promise.resolve()

  constructor(directory: string, workers: WorkerPool, log: Log) {
    this.#directory = directory
    this.#workers = workers
    this.#log = log
  }

  /** Moves a file or directory of the same file system away. Returns false when there is none. */
  async take(path: string): Promise<boolean> {
    try {
      await rename(path, join(this.#directory, randomBytes(12).toString('hex')))
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return false
      throw error
    }
    this.#sources.add(dirname(path))
    this.#schedule()
    return true
  }

  /** Takes everything that an earlier process left in a directory. */
  async takeContent(directory: string): Promise<void> {
    for (const name of await readdir(directory, { encoding: 'buffer' }))
      if (await this.take(join(directory, name.toString('latin1')))) this.found++
  }

  /** Deletes what an earlier process left. */
  async resume(): Promise<void> {
    const left = (await readdir(this.#directory)).length
    this.found += left
    if (left > 0) this.#schedule()
  }

  /** Resolves once everything taken so far is deleted, or could not be. */
  async emptied(): Promise<void> {
    if (this.#timer !== undefined) this.#empty()
    await this.#running
  }

  /** Forgets about deletions that have not begun; they are resumed at the next start. */
  close(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #schedule(): void {
    this.#timer ??= setTimeout(() => this.#empty(), GATHER_MS).unref()
  }

  async #syncRenames(): Promise<void> {
    const sources = [...this.#sources, this.#directory]
    this.#sources = new Set()
    for (const source of sources)
      await syncDirectory(source).catch((error: unknown) => {
        // Of a directory that is gone itself no name can come back.
        if (!isErrno(error, 'ENOENT')) throw error
      })
  }

  #empty(): void {
    this.close()
    this.#running = this.#running.then(async () => {
      try {
        await this.#syncRenames()
        const { failures } = await this.#workers.run('empty', { directory: this.#directory })
        for (const failure of failures)
          this.#log.warn('Cannot delete a removed tree, trying again at next start', { failure })
      } catch (error) {
        this.#log.warn('Deleting removed trees was interrupted', { error })
      }
    })
  }
}
