/**
 * The log of one container: its output becomes records, records reach the file (and the journal) in batches, the file is changed
 * when the kubelet has rotated it. What cannot be written is counted, never kept: the container does not wait for a full disk. For one
 * that does not answer it waits a while; its end does not.
 */
import { Realtime } from '#linux/realtime.ts'
import { MonitorFailure } from '../failure.ts'
import { settlesWithin } from '../within.ts'
import { Backlog } from './backlog.ts'
import { CriLog, type StreamName } from './cri-log.ts'
import type { Disk, Steps } from './disk.ts'
import type { Journal } from './journal.ts'
import { type Appended, LogFile } from './log-file.ts'

/** An unfinished line (a prompt, a progress bar) becomes visible after one to two of these times in which it has not grown … */
const idleFlushMs = 1000
/** … or after this many of them when it keeps growing. */
const longestWait = 4
/** Rotated files that are being made durable; more have to wait, as each of them is an open descriptor. */
const maxSyncing = 4
const openTimeoutMs = 10_000
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
  /** While nobody should read output: there is no room for it. */
  readonly backlog: Backlog
  readonly #target: LogTarget
  readonly #disk: Disk
  readonly #clock = new Realtime()
  readonly #records: CriLog
  readonly #onError: (error: string) => void
  readonly #syncing = new Set<Promise<void>>()
  #file: LogFile | undefined
  #gap: Gap | undefined
  #idle: NodeJS.Timeout | undefined
  #ended = false
  /** Nobody waits any more for what the disk still has to do. */
  #gaveUp = false
  bytesLogged = 0
  bytesLost = 0

  private constructor(target: LogTarget, disk: Disk, onError: (error: string) => void, file: LogFile | undefined) {
    this.#target = target
    this.#disk = disk
    this.#onError = onError
    this.#file = file
    this.backlog = new Backlog(() => onError('the disk does not answer, output is lost'))
    this.#records = new CriLog((batch, content) => this.#append(batch, content))
  }

  /**
   * @param onError is told, once per gap, what kept the output from being written
   * @throws MonitorFailure deadline-exceeded when the disk does not answer, and what opening the file throws
   */
  static async open(target: LogTarget, disk: Disk, onError: (error: string) => void): Promise<ContainerLog> {
    const { path, directory } = target
    const file = path === undefined ? undefined : await openFile(disk, path, directory)
    return new ContainerLog(target, disk, onError, file)
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
    // Complete records that were gathered before belong to the old file.
    this.#records.flush()
    await new Promise<void>((resolve, reject) => this.#disk.run(this.#change(tooLate, resolve, reject)))
  }

  *#change(tooLate: () => boolean, resolve: () => void, reject: (error: unknown) => void): Steps {
    try {
      if (this.#ended) throw new MonitorFailure('failed-precondition', 'The log is complete: its container has ended')
      if (tooLate()) throw lateReopen()
      const { path, directory } = this.#target
      if (path !== undefined) {
        const next = yield* LogFile.open(path, directory)
        // The disk has taken its time. Whoever asked has put the old file back by now.
        if (tooLate() || this.#gaveUp) {
          next.close()
          throw lateReopen()
        }
        if (this.#file !== undefined) this.#retire(this.#file)
        this.#file = next
      }
      resolve()
    } catch (error) {
      reject(error)
    }
  }

  /** Writes what is left and makes it durable, if that is possible in reasonable time. */
  async end(): Promise<void> {
    this.#ended = true
    clearTimeout(this.#idle)
    this.#readClock()
    this.#records.cutUnfinished()
    this.#records.flush()
    this.#disk.run(this.#finish())
    this.#target.journal?.close()
    if (this.journalLost > 0) this.#onError(`the journal did not take ${this.journalLost} records`)
    const done = this.#disk.whenIdle().then(() => Promise.all(this.#syncing))
    if (!(await settlesWithin(done, lastSyncTimeoutMs))) this.#giveUp()
    this.backlog.close()
  }

  *#finish(): Steps {
    this.#accountForBacklog()
    if (this.#gap !== undefined) yield* this.#write(Buffer.alloc(0), 0)
    if (this.#file !== undefined) this.#retire(this.#file)
  }

  /** What may or may not be in the file counts as lost. */
  #giveUp(): void {
    this.#gaveUp = true
    const { unwritten } = this.backlog
    this.bytesLost += unwritten
    this.#onError(`the disk does not answer: sync does not end, ${unwritten} bytes are counted as lost`)
  }

  /** Records that the journal did not take. */
  get journalLost(): number {
    return this.#target.journal?.lost ?? 0
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

  /** Says whether the batch is still in use. */
  #append(batch: Buffer, content: number): boolean {
    this.#target.journal?.send(batch)
    if (this.#file === undefined) {
      this.bytesLogged += content
      return false
    }
    if (!this.#disk.isBusy) {
      this.backlog.unwritten += content
      this.#disk.run(this.#writeBatch(batch, content))
      return this.#disk.isBusy
    }
    if (this.backlog.take(batch.length, content)) {
      this.#disk.run(this.#writeKept(Buffer.from(batch), content))
    } else this.bytesLost += content
    return false
  }

  *#writeKept(batch: Buffer, content: number): Steps {
    this.backlog.give(batch.length)
    yield* this.#writeBatch(batch, content)
  }

  *#writeBatch(batch: Buffer, content: number): Steps {
    yield* this.#write(batch, content)
    this.backlog.unwritten -= content
    this.#accountForBacklog()
  }

  *#write(batch: Buffer, content: number): Steps {
    const file = this.#file
    if (file === undefined) return
    const { content: kept, error } = yield* this.#gap === undefined
      ? file.append(batch, content)
      : this.#appendAfterGap(file, this.#gap, batch, content)
    if (this.#gaveUp) return
    this.bytesLogged += kept
    const lost = content - kept
    this.bytesLost += lost
    if (error === undefined) this.#gap = undefined
    else this.#lose(lost, error)
  }

  /** Once all that was kept has been written: what was not kept is missing right behind it. */
  #accountForBacklog(): void {
    const dropped = this.backlog.settle()
    if (dropped > 0) this.#gap = { bytes: (this.#gap?.bytes ?? 0) + dropped, error: 'ETIMEDOUT' }
  }

  /** The marker goes with the batch, or not at all: on a disk that is just full again there would be many of them. */
  #appendAfterGap(file: LogFile, gap: Gap, batch: Buffer, content: number): Steps<Appended> {
    const marker = this.#records.note(`cricket: ${gap.bytes} bytes of output were lost here (${gap.error})`)
    return file.append(Buffer.concat([marker, batch]), content, true)
  }

  #lose(bytes: number, error: string): void {
    if (this.#gap === undefined) this.#onError(error)
    this.#gap = { bytes: (this.#gap?.bytes ?? 0) + bytes, error }
  }
}

const lateReopen = () =>
  new MonitorFailure('deadline-exceeded', 'The log was not reopened: it was asked for too long ago')

async function openFile(disk: Disk, path: string, directory: string | undefined): Promise<LogFile> {
  let late = false
  const opening = new Promise<LogFile>((resolve, reject) => {
    function* open(): Steps {
      try {
        const file = yield* LogFile.open(path, directory)
        if (late) file.close()
        resolve(file)
      } catch (error) {
        reject(error)
      }
    }
    disk.run(open())
  })
  late = !(await settlesWithin(opening, openTimeoutMs))
  if (!late) return opening
  opening.catch(() => {})
  throw new MonitorFailure('deadline-exceeded', `The log "${path}" cannot be opened: its disk does not answer`)
}
