/** The log file on disk: opened without trusting its name, only ever appended to, torn records cut off again. */
import { closeSync, constants, fdatasync, fstatSync, ftruncateSync } from 'node:fs'
import { dirname, relative } from 'node:path'
import { writeSome } from '#linux/descriptor.ts'
import { errnoName, LinuxError } from '#linux/errno.ts'
import { openBeneath } from '#linux/openat2.ts'
import { wholeRecords } from './cri-log.ts'

// O_NONBLOCK: opening a FIFO that poses as a log file fails at once instead of waiting for a reader.
const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants
const FLAGS = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK

/** What became of a batch: the container's bytes in it that are in the file, and the errno of the write that failed. */
export interface Appended {
  readonly content: number
  readonly error?: string
}

/** The file ends within a record that could not be cut off: its size, and where it ought to end. */
interface Torn {
  readonly size: number
  readonly end: number
  readonly error: string
}

export class LogFile {
  readonly #fd: number
  #torn: Torn | undefined

  /**
   * Opens or creates the file, mode 0640. Below `directory`, which is trusted, no link is followed.
   * @throws LinuxError EINVAL when it is not a regular file, and what openat2 throws; then no file was created
   */
  constructor(path: string, directory = dirname(path)) {
    this.#fd = openBeneath(directory, relative(directory, path), FLAGS, 0o640, { noSymlinks: true })
    if (fstatSync(this.#fd).isFile()) return
    closeSync(this.#fd)
    throw new LinuxError('EINVAL', 'open', path, 'not a regular file')
  }

  /**
   * Appends whole records, which hold `content` bytes of the container. After a failure only whole ones of them are left, or, when
   * `allOrNothing`, none.
   */
  append(batch: Buffer, content: number, allOrNothing = false): Appended {
    if (this.#torn !== undefined && !this.#mend(this.#torn)) return { content: 0, error: this.#torn.error }
    let done = 0
    while (done < batch.length) {
      const count = writeSome(this.#fd, done === 0 ? batch : batch.subarray(done))
      if (count <= 0) {
        return this.#failed(batch.subarray(0, done), allOrNothing, count === 0 ? 'ENOSPC' : errnoName(count))
      }
      done += count
    }
    return { content }
  }

  /** Makes what was appended durable without keeping anyone waiting, then closes. Resolves with the errno when that failed. */
  syncAndClose(): Promise<string | undefined> {
    return new Promise((resolve) =>
      fdatasync(this.#fd, (error) => {
        closeSync(this.#fd)
        resolve(error?.code)
      }),
    )
  }

  #failed(written: Buffer, allOrNothing: boolean, error: string): Appended {
    const kept = allOrNothing ? { end: 0, content: 0 } : wholeRecords(written)
    if (kept.end < written.length) {
      const { size } = fstatSync(this.#fd)
      this.#torn = { size, end: size - (written.length - kept.end), error }
      this.#mend(this.#torn)
    }
    return { content: kept.content, error }
  }

  /** Cuts the torn record off; says whether it is gone. A disk that takes nothing back may do so later. */
  #mend({ size, end }: Torn): boolean {
    try {
      // Another size: somebody has truncated the file meanwhile.
      if (fstatSync(this.#fd).size === size) ftruncateSync(this.#fd, end)
      this.#torn = undefined
      return true
    } catch {
      return false
    }
  }
}
