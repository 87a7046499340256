/** The log file on disk: opened without trusting its name, only ever appended to, torn records cut off again. Its disk makes the calls. */
import { close, closeSync, constants, fdatasync } from 'node:fs'
import { dirname, relative } from 'node:path'
import { tryAgain } from '#linux/descriptor.ts'
import { errnoName, LinuxError } from '#linux/errno.ts'
import { beneathArguments } from '#linux/openat2.ts'
import { AT_FDCWD, sysError } from '#linux/sys.ts'
import { wholeRecords } from './cri-log.ts'
import type { Steps } from './disk.ts'

// O_NONBLOCK: opening a FIFO that poses as a log file fails at once instead of waiting for a reader.
const { O_WRONLY, O_APPEND, O_CREAT, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, S_IFMT, S_IFREG } = constants
const FLAGS = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK
const O_PATH_CLOEXEC = 0x200000 | 0x80000
// The kernel wants to be asked again when something is renamed meanwhile.
const ATTEMPTS = 128

const AT_EMPTY_PATH = 0x1000
const STATX_TYPE_SIZE = 0x201
const STATX_BYTES = 256

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

  private constructor(fd: number) {
    this.#fd = fd
  }

  /**
   * Opens or creates the file, mode 0640. Below `directory`, which is trusted, no link is followed.
   * @throws LinuxError EINVAL when it is not a regular file, and what openat2 throws; then no file was created
   */
  static *open(path: string, directory = dirname(path)): Steps<LogFile> {
    const above = yield ['openat', AT_FDCWD, directory, O_DIRECTORY | O_PATH_CLOEXEC, 0]
    if (above < 0) throw sysError(above, 'open', directory)
    const call = beneathArguments(above, relative(directory, path), FLAGS, 0o640)
    let fd = yield ['openat2', ...call]
    for (let attempt = 1; fd === tryAgain && attempt < ATTEMPTS; attempt++) fd = yield ['openat2', ...call]
    closeSync(above)
    if (fd < 0) throw sysError(fd, 'openat2', path)
    const file = new LogFile(fd)
    if ((yield* file.#stat())?.isFile === true) return file
    file.close()
    throw new LinuxError('EINVAL', 'open', path, 'not a regular file')
  }

  /**
   * Appends whole records, which hold `content` bytes of the container. After a failure only whole ones of them are left, or, when
   * `allOrNothing`, none.
   */
  *append(batch: Buffer, content: number, allOrNothing = false): Steps<Appended> {
    if (this.#torn !== undefined && !(yield* this.#mend(this.#torn))) return { content: 0, error: this.#torn.error }
    let done = 0
    while (done < batch.length) {
      const rest = done === 0 ? batch : batch.subarray(done)
      const count = yield ['write', this.#fd, rest, rest.length]
      if (count <= 0) {
        return yield* this.#failed(batch.subarray(0, done), allOrNothing, count === 0 ? 'ENOSPC' : errnoName(count))
      }
      done += count
    }
    return { content }
  }

  /** Makes what was appended durable without keeping anyone waiting, then closes. Resolves with the errno when that failed. */
  syncAndClose(): Promise<string | undefined> {
    return new Promise((resolve) => fdatasync(this.#fd, (error) => close(this.#fd, () => resolve(error?.code))))
  }

  /** Without keeping anyone waiting. */
  close(): void {
    close(this.#fd)
  }

  *#failed(written: Buffer, allOrNothing: boolean, error: string): Steps<Appended> {
    const kept = allOrNothing ? { end: 0, content: 0 } : wholeRecords(written)
    if (kept.end < written.length) {
      const size = (yield* this.#stat())?.size ?? 0
      this.#torn = { size, end: size - (written.length - kept.end), error }
      yield* this.#mend(this.#torn)
    }
    return { content: kept.content, error }
  }

  /** Cuts the torn record off; says whether it is gone. A disk that takes nothing back may do so later. */
  *#mend({ size, end }: Torn): Steps<boolean> {
    const now = yield* this.#stat()
    if (now === undefined) return false
    // Another size: somebody has truncated the file meanwhile.
    if (now.size === size && (yield ['ftruncate', this.#fd, end]) < 0) return false
    this.#torn = undefined
    return true
  }

  *#stat(): Steps<{ isFile: boolean; size: number } | undefined> {
    const facts = Buffer.alloc(STATX_BYTES)
    const failed = yield ['statx', this.#fd, '', AT_EMPTY_PATH, STATX_TYPE_SIZE, facts]
    if (failed < 0) return undefined
    return { isFile: (facts.readUInt16LE(28) & S_IFMT) === S_IFREG, size: Number(facts.readBigUInt64LE(40)) }
  }
}
