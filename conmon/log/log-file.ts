/** The log file on disk: opened without trusting its name, only ever appended to, torn records cut off again. */
import { closeSync, constants, fdatasync, fdatasyncSync, fstatSync, ftruncateSync, openSync } from 'node:fs'
import { writeSome } from '#linux/descriptor.ts'
import { errnoName, LinuxError } from '#linux/errno.ts'
import { wholeRecords } from './cri-log.ts'

// O_NONBLOCK: opening a FIFO that poses as a log file fails at once instead of waiting for a reader.
const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants
const FLAGS = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK

/** What became of a batch: the container's bytes in it that are in the file, and the errno of the write that failed. */
export interface Appended {
  readonly content: number
  readonly error?: string
}

export class LogFile {
  readonly #fd: number

  /** Opens or creates the file, mode 0640. @throws LinuxError EINVAL when it is not a regular file, and what open throws */
  constructor(path: string) {
    this.#fd = openSync(path, FLAGS, 0o640)
    if (fstatSync(this.#fd).isFile()) return
    closeSync(this.#fd)
    throw new LinuxError('EINVAL', 'open', path, 'not a regular file')
  }

  /** Appends whole records, which hold `content` bytes of the container. After a failure only whole ones of them are left. */
  append(batch: Buffer, content: number): Appended {
    let done = 0
    while (done < batch.length) {
      const count = writeSome(this.#fd, done === 0 ? batch : batch.subarray(done))
      if (count < 0) return this.#cutTorn(batch.subarray(0, done), errnoName(count))
      done += count
    }
    return { content }
  }

  /** Makes what was appended durable. */
  sync(): void {
    fdatasyncSync(this.#fd)
  }

  /** Makes it durable without keeping anyone waiting, then closes. */
  syncAndClose(): Promise<void> {
    return new Promise((resolve) =>
      fdatasync(this.#fd, () => {
        this.close()
        resolve()
      }),
    )
  }

  close(): void {
    closeSync(this.#fd)
  }

  #cutTorn(written: Buffer, error: string): Appended {
    const { end, content } = wholeRecords(written)
    try {
      if (end < written.length) ftruncateSync(this.#fd, fstatSync(this.#fd).size - (written.length - end))
    } catch {
      // The disk does not take anything back either; the torn record will be followed by the next one.
    }
    return { content, error }
  }
}
