/**
 * The log of one container: its output becomes records, records reach the file (and the journal) in batches, the file is changed
 * when the kubelet has rotated it. What cannot be written is counted, never kept: the container does not wait for a full disk.
 */
import { Realtime } from '#linux/realtime.ts'
import { MonitorFailure } from '../failure.ts'
import { settlesWithin } from '../within.ts'
import { CriLog, type StreamName } from './cri-log.ts'
import type { Journal } from './journal.ts'
import { LogFile } from './log-file.ts'

/** An unfinished line (a prompt, a progress bar) becomes visible after one to two of these times in which it has not grown … */
const idleFlushMs = 1000
/** … or after this many of them when it keeps growing. */
const longestWait = 4
/** Rotated files that are being made durable; more have to wait, as each of them is an open descriptor. */
const maxSyncing = 4
/** A disk that hangs must not keep the end of the container from being told. */
const lastSyncTimeoutMs = 5000

export interface LogTarget {
  /** Absent when there is only the journal. */
  readonly path?: string
  /** A trusted directory above; the file's own when not given. */
  readonly directory?: string
  readonly journal?: Journal
}

/** What has been lost since the last record that reached the file. */
interface Gap {
  readonly bytes: number
  readonly error: string
}

export class ContainerLog {
  readonly #target: LogTarget
  readonly #clock = new Realtime()
  readonly #records: CriLog
  readonly #onError: (error: string) => void
  readonly #syncing = new Set<Promise<void>>()
  #file: LogFile | undefined
  #gap: Gap | undefined
  #idle: NodeJS.Timeout | undefined
  #ended = false
  bytesLogged = 0
  bytesLost = 0

  /**
   * @param onError is told, once per gap, what kept the output from being written
   * @throws what opening the file throws
   */
  constructor(target: LogTarget, onError: (error: string) => void) {
    this.#target = target
    this.#onError = onError
    this.#file = this.#open()
    this.#records = new CriLog((batch, content) => this.#append(batch, content))
  }

  /** Takes output; `flush` sends it to the file. The caller may reuse the buffer afterwards. */
  write(stream: StreamName, bytes: Buffer): void {
    this.#readClock()
    this.#records.add(stream, bytes)
  }

  flush(): void {
    this.#records.flush()
    if (this.#idle === undefined && this.#records.hasUnfinished) this.#awaitIdle()
  }

  /**
   * Goes on in a new file of the same name; returns when it is in use.
   * @param tooLate says whether nobody wants the file any more; asked right before it would be created
   * @throws MonitorFailure deadline-exceeded, failed-precondition when the log has ended, and what opening the file throws; then
   *   there is no new file, and the old one is used on
   */
  async reopen(tooLate: () => boolean = () => false): Promise<void> {
    while (this.#syncing.size >= maxSyncing) await Promise.race(this.#syncing)
    if (this.#ended) throw new MonitorFailure('failed-precondition', 'The log is complete: its container has ended')
    if (tooLate())
      throw new MonitorFailure('deadline-exceeded', 'The log was not reopened: it was asked for too long ago')
    const next = this.#open()
    // Complete records that were gathered before belong to the old file.
    this.#records.flush()
    if (this.#file !== undefined) this.#retire(this.#file)
    this.#file = next
  }

  /** Writes what is left and makes it durable, if that is possible in reasonable time. */
  async end(): Promise<void> {
    this.#ended = true
    clearTimeout(this.#idle)
    this.#readClock()
    this.#records.cutUnfinished()
    this.#records.flush()
    if (this.#gap !== undefined) this.#append(Buffer.alloc(0), 0)
    if (this.#file !== undefined) this.#retire(this.#file)
    this.#target.journal?.close()
    if (this.journalLost > 0) this.#onError(`the journal did not take ${this.journalLost} records`)
    if (!(await settlesWithin(Promise.all(this.#syncing), lastSyncTimeoutMs))) this.#onError('sync does not end')
  }

  /** Records that the journal did not take. */
  get journalLost(): number {
    return this.#target.journal?.lost ?? 0
  }

  #open(): LogFile | undefined {
    const { path, directory } = this.#target
    return path === undefined ? undefined : new LogFile(path, directory)
  }

  #retire(file: LogFile): void {
    const syncing = file.syncAndClose().then((error) => {
      if (error !== undefined) this.#onError(`sync: ${error}`)
      this.#syncing.delete(syncing)
    })
    this.#syncing.add(syncing)
  }

  /** A timer only while there is an unfinished line. */
  #awaitIdle(): void {
    this.#idle = setTimeout(() => {
      this.#idle = undefined
      this.#readClock()
      const more = this.#records.cutStale(longestWait)
      this.#records.flush()
      if (more) this.#awaitIdle()
    }, idleFlushMs)
  }

  #readClock(): void {
    this.#clock.read()
    this.#records.setTime(this.#clock.seconds, this.#clock.nanoseconds)
  }

  #append(batch: Buffer, content: number): void {
    this.#target.journal?.send(batch)
    if (this.#file === undefined) {
      this.bytesLogged += content
      return
    }
    const { content: kept, error } =
      this.#gap === undefined
        ? this.#file.append(batch, content)
        : this.#appendAfterGap(this.#file, this.#gap, batch, content)
    this.bytesLogged += kept
    const lost = content - kept
    this.bytesLost += lost
    if (error === undefined) this.#gap = undefined
    else this.#lose(lost, error)
  }

  /** The marker goes with the batch, or not at all: on a disk that is just full again there would be many of them. */
  #appendAfterGap(file: LogFile, gap: Gap, batch: Buffer, content: number) {
    const marker = this.#records.note(`cricket: ${gap.bytes} bytes of output were lost here (${gap.error})`)
    return file.append(Buffer.concat([marker, batch]), content, true)
  }

  #lose(bytes: number, error: string): void {
    if (this.#gap === undefined) this.#onError(error)
    this.#gap = { bytes: (this.#gap?.bytes ?? 0) + bytes, error }
  }
}
