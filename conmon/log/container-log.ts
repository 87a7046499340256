/**
 * The log of one container: its output becomes records, records reach the file in batches, the file is changed when the
 * kubelet has rotated it. What cannot be written is counted, never kept: the container does not wait for a full disk.
 */
import { Realtime } from '#linux/realtime.ts'
import { CriLog, type StreamName } from './cri-log.ts'
import { LogFile } from './log-file.ts'

/** An unfinished line (a prompt, a progress bar) becomes visible after this time without output. */
const idleFlushMs = 1000
/** A line that keeps growing, or whose neighbour stream never pauses, becomes visible after this time. */
const longestWaitMs = 5000

export class ContainerLog {
  readonly #path: string
  readonly #clock = new Realtime()
  readonly #records: CriLog
  readonly #onError: (error: string) => void
  #file: LogFile
  #idle: NodeJS.Timeout | undefined
  #lastByteAt = 0
  #unfinishedSince = 0
  #closing: Promise<unknown> = Promise.resolve()
  bytesLogged = 0
  bytesLost = 0

  /**
   * @param onError is told the errno of each batch that could not be written
   * @throws what opening the file throws
   */
  constructor(path: string, onError: (error: string) => void) {
    this.#path = path
    this.#onError = onError
    this.#file = new LogFile(path)
    this.#records = new CriLog((batch, content) => this.#append(batch, content))
  }

  /** Takes output; `flush` sends it to the file. The caller may reuse the buffer afterwards. */
  write(stream: StreamName, bytes: Buffer): void {
    this.#readClock()
    this.#records.add(stream, bytes)
  }

  flush(): void {
    this.#records.flush()
    if (!this.#records.hasUnfinished) return
    this.#lastByteAt = performance.now()
    if (this.#idle !== undefined) return
    this.#unfinishedSince = this.#lastByteAt
    this.#idle = setTimeout(() => this.#idleFlush(), idleFlushMs)
  }

  /**
   * Goes on in a new file of the same name; returns when it is in use.
   * @throws what opening the file throws, and then goes on in the old one
   */
  reopen(): void {
    const next = new LogFile(this.#path)
    this.#records.flush()
    const old = this.#file
    this.#file = next
    this.#closing = Promise.all([this.#closing, old.syncAndClose()])
  }

  /** Writes what is left and makes it durable. */
  async end(): Promise<void> {
    clearTimeout(this.#idle)
    this.#readClock()
    this.#records.cutUnfinished()
    this.#records.flush()
    await this.#closing
    this.#file.sync()
    this.#file.close()
  }

  /** One timer per unfinished line, not one per piece of it. */
  #idleFlush(): void {
    this.#idle = undefined
    if (!this.#records.hasUnfinished) return
    const due = Math.min(this.#lastByteAt + idleFlushMs, this.#unfinishedSince + longestWaitMs)
    const left = due - performance.now()
    if (left > 1) {
      this.#idle = setTimeout(() => this.#idleFlush(), left)
      return
    }
    this.#readClock()
    this.#records.cutUnfinished()
    this.#records.flush()
  }

  #readClock(): void {
    this.#clock.read()
    this.#records.setTime(this.#clock.seconds, this.#clock.nanoseconds)
  }

  #append(batch: Buffer, content: number): void {
    const appended = this.#file.append(batch, content)
    this.bytesLogged += appended.content
    this.bytesLost += content - appended.content
    if (appended.error !== undefined) this.#onError(appended.error)
  }
}
