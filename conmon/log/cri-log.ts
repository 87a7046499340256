/**
 * Bytes of a container into records of the CRI log file: "<time> <stdout|stderr> <F|P> <content>\n" (reliability.md §4.1).
 * Whole records are gathered into batches, each to be written by one write. Pure; bytes are kept exactly.
 */
import { Timestamp, timestampBytes } from './timestamp.ts'

export type StreamName = 'stdout' | 'stderr'

/** Longer lines are cut into partial records. */
export const maxContentBytes = 16 * 1024
/** Everything of a record before its content; both stream names are of one length. */
export const prefixBytes = timestampBytes + ' stdout F '.length
/** Where in a record the tag is. */
export const tagOffset = prefixBytes - 2

const LINE_FEED = 10
const FULL = 'F'.charCodeAt(0)
const PARTIAL = 'P'.charCodeAt(0)
const BATCH_BYTES = 128 * 1024

/** A batch of whole records. `content` is how many of the container's bytes are in it. Whoever answers true keeps the batch. */
export type WriteBatch = (batch: Buffer, content: number) => boolean

/** The beginning of a line whose end has not come yet. */
class Unfinished {
  // Most containers write whole lines: they never need it.
  #bytes: Buffer | undefined
  #age = 0
  #grown = false
  length = 0

  /** Called every now and then while there is something: says whether it has been kept long enough. */
  isStale(longest: number): boolean {
    const stale = this.length > 0 && (!this.#grown || this.#age >= longest)
    this.#grown = false
    this.#age++
    return stale
  }

  append(from: Buffer, start: number, end: number): void {
    if (this.length === 0) this.#age = 0
    this.#grown = true
    this.#bytes ??= Buffer.allocUnsafeSlow(maxContentBytes)
    this.length += from.copy(this.#bytes, this.length, start, end)
  }

  moveTo(target: Buffer, offset: number): number {
    const { length } = this
    this.#bytes?.copy(target, offset, 0, length)
    this.length = 0
    return length
  }
}

class Stream {
  readonly prefix: Buffer
  readonly unfinished = new Unfinished()

  constructor(name: StreamName) {
    this.prefix = Buffer.alloc(prefixBytes)
    this.prefix.write(` ${name} F `, timestampBytes, 'latin1')
  }
}

export class CriLog {
  readonly #streams = { stdout: new Stream('stdout'), stderr: new Stream('stderr') }
  readonly #timestamp = new Timestamp()
  readonly #write: WriteBatch
  #batch = Buffer.allocUnsafeSlow(BATCH_BYTES)
  #length = 0
  #content = 0

  constructor(write: WriteBatch) {
    this.#write = write
  }

  /** The time of the records to come. */
  setTime(seconds: number, nanoseconds: number): void {
    const text = this.#timestamp.of(seconds, nanoseconds)
    text.copy(this.#streams.stdout.prefix)
    text.copy(this.#streams.stderr.prefix)
  }

  /** Takes bytes of the container. The caller may reuse the buffer afterwards. */
  add(name: StreamName, bytes: Buffer): void {
    const stream = this.#streams[name]
    let start = 0
    while (start < bytes.length) {
      if (stream.unfinished.length === 0) start = this.#wholeLines(stream.prefix, bytes, start)
      if (start < bytes.length) start = this.#line(stream, bytes, start)
    }
  }

  /**
   * The hot path: copies lines that are whole and not too long, as many as there are from `start` on and fit the batch.
   * Returns where it stopped. Runs without a just-in-time compiler, so it touches nothing it need not touch.
   */
  #wholeLines(prefix: Buffer, bytes: Buffer, from: number): number {
    const batch = this.#batch
    const first = this.#length
    let at = first
    let start = from
    let lines = 0
    for (;;) {
      const end = bytes.indexOf(LINE_FEED, start) + 1
      const next = at + prefixBytes + end - start
      if (end === 0 || end - start > maxContentBytes || next > BATCH_BYTES) break
      prefix.copy(batch, at)
      bytes.copy(batch, at + prefixBytes, start, end)
      at = next
      start = end
      lines++
    }
    this.#length = at
    this.#content += at - first - lines * prefixBytes
    return start
  }

  /** Any line, or piece of one. Returns where it ended. */
  #line(stream: Stream, bytes: Buffer, start: number): number {
    const lineFeed = bytes.indexOf(LINE_FEED, start)
    const end = lineFeed < 0 ? bytes.length : lineFeed
    // Cut only when more is known to follow: a line of exactly the limit is whole.
    if (stream.unfinished.length + end - start > maxContentBytes) {
      const cut = start + maxContentBytes - stream.unfinished.length
      this.#record(stream, PARTIAL, bytes, start, cut)
      return cut
    }
    if (lineFeed < 0) {
      stream.unfinished.append(bytes, start, end)
      return end
    }
    this.#record(stream, FULL, bytes, start, end)
    return lineFeed + 1
  }

  /** Whether some line has begun and not ended. */
  get hasUnfinished(): boolean {
    return this.#streams.stdout.unfinished.length > 0 || this.#streams.stderr.unfinished.length > 0
  }

  /**
   * To be called at a steady pace while there are unfinished lines: makes partial records of those that have not grown since the last
   * call, or are there for more than `longest` calls. Returns whether any is left.
   */
  cutStale(longest: number): boolean {
    for (const stream of [this.#streams.stdout, this.#streams.stderr]) {
      if (stream.unfinished.isStale(longest)) this.#record(stream, PARTIAL, this.#batch, 0, 0)
    }
    return this.hasUnfinished
  }

  /** Makes partial records of unfinished lines: what follows of them will be records of their own. */
  cutUnfinished(): void {
    for (const stream of [this.#streams.stdout, this.#streams.stderr]) {
      if (stream.unfinished.length > 0) this.#record(stream, PARTIAL, this.#batch, 0, 0)
    }
  }

  /** A record of the monitor's own, for the caller to write: one line without a line feed, marked as of the error stream. */
  note(text: string): Buffer {
    return Buffer.concat([this.#streams.stderr.prefix, Buffer.from(`${text}\n`)])
  }

  /** Writes the records gathered so far. */
  flush(): void {
    if (this.#length === 0) return
    const batch = this.#batch.subarray(0, this.#length)
    const content = this.#content
    this.#length = 0
    this.#content = 0
    if (this.#write(batch, content)) this.#batch = Buffer.allocUnsafeSlow(BATCH_BYTES)
  }

  /** One record: what is unfinished of the stream, then bytes from `start` to `end`. */
  #record(stream: Stream, tag: number, bytes: Buffer, start: number, end: number): void {
    const contentBytes = stream.unfinished.length + end - start
    if (this.#length + prefixBytes + contentBytes + 1 > BATCH_BYTES) this.flush()
    const batch = this.#batch
    let at = this.#length
    stream.prefix.copy(batch, at)
    batch[at + tagOffset] = tag
    at += prefixBytes
    if (stream.unfinished.length > 0) at += stream.unfinished.moveTo(batch, at)
    if (end > start) at += bytes.copy(batch, at, start, end)
    batch[at] = LINE_FEED
    this.#length = at + 1
    this.#content += tag === FULL ? contentBytes + 1 : contentBytes
  }
}

/** How many of the container's bytes are in the whole records at the front of `batch`, and where these end. */
export function wholeRecords(batch: Buffer): { end: number; content: number } {
  let end = 0
  let content = 0
  for (;;) {
    const lineFeed = batch.indexOf(LINE_FEED, end)
    if (lineFeed < 0) return { end, content }
    content += lineFeed - end - prefixBytes + (batch[end + tagOffset] === FULL ? 1 : 0)
    end = lineFeed + 1
  }
}
