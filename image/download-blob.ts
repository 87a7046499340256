/**
 * One blob from a source: goes on where an earlier try (or an earlier life of the daemon) stopped, tries again while it makes progress. Into the
 * blob store, whose digest check decides, or into the hands of somebody who reads it as it comes.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { isKind, messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { BlobStore } from '#storage/blob-store.ts'
import { asDiskError } from '#storage/disk-errors.ts'
import type { ByteRange } from '#storage/extents.ts'
import type { BlobStream, ImageSource } from './image-source.ts'
import type { Descriptor } from './manifest.ts'
import { PassingFailure, sortFailure, unavailable } from './registry/registry-error.ts'
import { pauseMs } from './registry/retry.ts'
import type { Timing } from './registry/timing.ts'

export interface DownloadInput {
  readonly source: ImageSource
  readonly blobs: BlobStore
  readonly timing: Timing
  readonly log: Log
  /** Told of every piece that arrives. */
  readonly received: (bytes: number) => void
}

/** A try that brought less than this counts as one that did not move. */
const PROGRESS = 64 * 1024
/** How often what was kept may turn out to be bad: pieces of several servers can be in it. */
export const MAX_STARTS = 3

/**
 * @throws RuntimeError failed-precondition (wrong size or digest), registry-unavailable, permission-denied,
 *   resource-exhausted (no space); the signal's reason
 */
export const downloadBlob = async (
  input: DownloadInput,
  descriptor: Descriptor,
  signal: AbortSignal,
): Promise<void> => {
  const { digest, size } = descriptor
  for (let starts = 1; ; starts++) {
    const download = new Download(input, descriptor, {
      offset: () => (starts === 1 ? resumePoint(input.blobs, descriptor) : 0),
      store: (pieces, { offset: resumeFrom }) =>
        input.blobs.put(digest, pieces, { size, signal, ...(resumeFrom > 0 && { resumeFrom }) }),
    })
    try {
      return await download.run(signal)
    } catch (error) {
      signal.throwIfAborted()
      if (!isKind(error, 'failed-precondition')) throw error
      if (!download.canStartOver() || starts >= MAX_STARTS) throw error
      input.log.info('Blob is not what it should be, starting over', { what: digest, cause: messageOf(error) })
    }
  }
}

/** How much of a blob is there to go on with. */
const resumePoint = async (blobs: BlobStore, { digest, size }: Descriptor): Promise<number> => {
  const there = await blobs.partial(digest)
  return there <= size ? there : 0
}

/** Where the bytes go. */
export interface Target {
  /** Where the next try begins. */
  readonly offset: () => number | Promise<number>
  /** Before which byte it ends, when that is not the blob's end. */
  readonly end?: () => number
  /** Takes what comes, which may be the whole blob although less was asked for. */
  readonly store: (pieces: AsyncIterable<Uint8Array>, stream: BlobStream) => Promise<void>
}

/** As many tries as it takes. */
export class Download {
  readonly #input: DownloadInput
  readonly #descriptor: Descriptor
  readonly #target: Target
  #last: Attempt | undefined

  constructor(input: DownloadInput, descriptor: Descriptor, target: Target) {
    this.#input = input
    this.#descriptor = descriptor
    this.#target = target
  }

  /** @throws as `downloadBlob` */
  async run(signal: AbortSignal): Promise<void> {
    for (let tries = 1; ; tries++) {
      signal.throwIfAborted()
      const { offset, end } = this.#target
      const place = { start: await offset(), end: end?.() ?? this.#descriptor.size }
      const attempt = new Attempt(this.#input, this.#descriptor, place)
      this.#last = attempt
      try {
        return await attempt.run(this.#target, signal)
      } catch (error) {
        signal.throwIfAborted()
        if (!(error instanceof PassingFailure)) throw error
        if (attempt.moved >= PROGRESS) tries = 1
        await this.#pause(tries, error, signal)
      }
    }
  }

  /**
   * Whether wrong bytes may be right next time: bad may be what was kept from before and not what came now; and what one
   * server got wrong from beginning to end another one may have right.
   */
  canStartOver(): boolean {
    return this.#last?.canStartOver() === true
  }

  async #pause(tries: number, failure: PassingFailure, signal: AbortSignal): Promise<void> {
    const { timing, log } = this.#input
    if (tries >= timing.attempts)
      throw unavailable(`${failure.message} (tried ${tries} times without progress)`, failure)
    const ms = pauseMs(timing, tries, failure.retryAfterMs)
    const what = `blob "${this.#descriptor.digest}"`
    log.info('Blob was cut, going on', { what, failure: failure.message, tries, pauseMs: ms })
    await sleep(ms, undefined, { signal }).catch(() => signal.throwIfAborted())
  }
}

/** One try, and what is known of it afterwards. */
class Attempt {
  readonly #input: DownloadInput
  readonly #descriptor: Descriptor
  readonly #place: ByteRange
  #stream: BlobStream | undefined
  /** Bytes that came. */
  moved = 0

  constructor(input: DownloadInput, descriptor: Descriptor, place: ByteRange) {
    this.#input = input
    this.#descriptor = descriptor
    this.#place = place
  }

  async run({ store }: Target, signal: AbortSignal): Promise<void> {
    const { digest } = this.#descriptor
    const stream = await this.#open(signal)
    this.#stream = stream
    // The store must tell the source's failures from its own, and the source one broken connection from another.
    const failed: { error?: RuntimeError | PassingFailure } = {}
    try {
      await store(this.#pieces(stream, failed), stream)
    } catch (error) {
      throw failed.error ?? asDiskError(error, `Cannot store blob "${digest}"`)
    } finally {
      stream.discard()
    }
  }

  canStartOver(): boolean {
    return this.#place.start > 0 || this.#stream?.blame?.() === true
  }

  async #open(signal: AbortSignal): Promise<BlobStream> {
    const { digest, size } = this.#descriptor
    const { start, end } = this.#place
    // All of it may be there, only never checked: nothing to ask for.
    if (start === end && size > 0) return { offset: start, end, bytes: nothing(), discard: () => {} }
    try {
      return await this.#input.source.blob(this.#descriptor, start, signal, end < size ? end : undefined)
    } catch (error) {
      throw sortFailure(error, `blob "${digest}"`)
    }
  }

  async *#pieces(
    stream: BlobStream,
    failed: { error?: RuntimeError | PassingFailure },
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const { digest, size } = this.#descriptor
    let left = (stream.end ?? size) - stream.offset
    try {
      for await (const piece of stream.bytes) {
        left -= piece.length
        if (left < 0) throw new RuntimeError('failed-precondition', `Blob "${digest}" is larger than the manifest says`)
        this.moved += piece.length
        this.#input.received(piece.length)
        yield piece
      }
      if (left > 0) throw new PassingFailure(`Blob "${digest}" ended ${left} bytes too early`)
    } catch (error) {
      failed.error = sortFailure(error, `blob "${digest}"`)
      throw failed.error
    }
  }
}

async function* nothing(): AsyncGenerator<Uint8Array, void, undefined> {}
