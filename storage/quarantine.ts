/** Where damaged things go: out of the way, never deleted in reaction, one at a time (reliability: damage is contained). */
import { rename } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import type { Log } from '#proto/log.ts'

export class Quarantine {
  readonly #directory: string
  readonly #log: Log
  /** How many things went there since the start. */
  taken = 0

  constructor(directory: string, log: Log) {
    this.#directory = directory
    this.#log = log
  }

  /** Moves `path` away and says so in the log. Nothing happens when it is gone. */
  async take(path: string, why: string): Promise<void> {
    const kept = join(this.#directory, `${basename(path)}.${Date.now()}`)
    try {
      await rename(path, kept)
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return
      throw error
    }
    this.taken++
    this.#log.error('Quarantined something damaged', { path, kept, why })
  }
}
