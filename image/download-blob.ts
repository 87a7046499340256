/**
 * One blob from a source into the blob store: goes on where an earlier try (or an earlier life of the daemon) stopped,
 * tries again while it makes progress, lets the store's digest check decide.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { isKind, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { BlobStore } from '#storage/blob-store.ts'
import { asDiskError } from '#storage/disk-errors.ts'
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

/**
 * @throws RuntimeError failed-precondition (wrong size or digest), registry-unavailable, permission-denied,
 *   resource-exhausted (no space); the signal's reason
 */
export const downloadBlob = async (
  input: DownloadInput,
  descriptor: Descriptor,
  signal: AbortSignal,
): Promise<void> => {
  const { blobs, timing, log } = input
  const what = `blob "${descriptor.digest}"`
  let startedOver = false
  let fromStart = false
  for (let tries = 1; ; tries++) {
    signal.throwIfAborted()
    const offset = fromStart ? 0 : await resumePoint(blobs, descriptor)
    let moved = 0
    const received = (bytes: number): void => {
      moved += bytes
      input.received(bytes)
    }
    try {
      return await tryOnce({ ...input, received }, descriptor, offset, signal)
    } catch (error) {
      signal.throwIfAborted()
      if (offset > 0 && !startedOver && isKind(error, 'failed-precondition')) {
        // What was kept from before may be bad, not what came now.
        log.info('Blob could not be resumed, starting over', { what, offset, cause: error.message })
        startedOver = true
        fromStart = true
        continue
      }
      if (!(error instanceof PassingFailure)) throw error
      fromStart = false
      if (moved >= PROGRESS) tries = 1
      if (tries >= timing.attempts) throw unavailable(`${error.message} (tried ${tries} times without progress)`, error)
      const ms = pauseMs(timing, tries, error.retryAfterMs)
      log.info('Blob was cut, going on', { what, failure: error.message, tries, pauseMs: ms })
      await sleep(ms, undefined, { signal }).catch(() => signal.throwIfAborted())
    }
  }
}

const resumePoint = async (blobs: BlobStore, { digest, size }: Descriptor): Promise<number> => {
  const there = await blobs.partial(digest)
  return there <= size ? there : 0
}

const tryOnce = async (
  input: DownloadInput,
  descriptor: Descriptor,
  offset: number,
  signal: AbortSignal,
): Promise<void> => {
  const { digest, size } = descriptor
  const stream = await open(input.source, descriptor, offset, signal)
  const resumeFrom = stream.offset > 0 ? { resumeFrom: stream.offset } : {}
  // The store must tell the source's failures from its own, and the source one broken connection from another.
  let sourceFailure: RuntimeError | PassingFailure | undefined
  async function* pieces(): AsyncGenerator<Uint8Array, void, undefined> {
    let left = size - stream.offset
    try {
      for await (const piece of stream.bytes) {
        left -= piece.length
        if (left < 0) throw new RuntimeError('failed-precondition', `Blob "${digest}" is larger than the manifest says`)
        input.received(piece.length)
        yield piece
      }
      if (left > 0) throw new PassingFailure(`Blob "${digest}" ended ${left} bytes too early`)
    } catch (error) {
      sourceFailure = sortFailure(error, `blob "${digest}"`)
      throw sourceFailure
    }
  }
  try {
    await input.blobs.put(digest, pieces(), { size, signal, ...resumeFrom })
  } catch (error) {
    throw sourceFailure ?? asDiskError(error, `Cannot store blob "${digest}"`)
  } finally {
    stream.discard()
  }
}

const open = async (
  source: ImageSource,
  descriptor: Descriptor,
  offset: number,
  signal: AbortSignal,
): Promise<BlobStream> => {
  // All of it may be there, only never checked: nothing to ask for.
  if (offset === descriptor.size && offset > 0) return { offset, bytes: nothing(), discard: () => {} }
  try {
    return await source.blob(descriptor, offset, signal)
  } catch (error) {
    throw sortFailure(error, `blob "${descriptor.digest}"`)
  }
}

async function* nothing(): AsyncGenerator<Uint8Array, void, undefined> {}
