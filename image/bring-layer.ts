/** A layer that is not there: its blob is downloaded and unpacked at the same time, as often as its bytes turn out wrong and may be right next time. */

import { isKind, messageOf } from '#proto/errors.ts'
import type { Growth } from '#storage/growth.ts'
import type { PartialBlob } from '#storage/partial-blob.ts'
import { untilAborted } from '#storage/single-flight.ts'
import { WrongBlob } from '#storage/tar/unpack-pool.ts'
import { MAX_STARTS } from './download-blob.ts'
import { DownloadParts } from './download-parts.ts'
import type { FetchLayersInput, LayerToFetch } from './fetch-layers.ts'
import { layerCompression } from './media-types.ts'
import type { Slots } from './slots.ts'

/** The caller holds the locks of layer and blob. @throws what download and unpacking throw */
export const bringLayer = async (
  input: FetchLayersInput,
  layer: LayerToFetch,
  slots: Slots,
  signal: AbortSignal,
): Promise<void> => {
  const { blobs, log } = input
  const { digest } = layer.descriptor
  for (let starts = 1; ; starts++) {
    const attempt = new Bringing(input, layer, starts === 1)
    try {
      await attempt.run(slots, signal)
      return
    } catch (error) {
      if (!(error instanceof WrongBlob)) throw error
      await blobs.remove(digest)
      signal.throwIfAborted()
      if (!attempt.canStartOver() || starts >= MAX_STARTS) throw error
      log.info('Blob is not what it should be, starting over', { what: digest, cause: messageOf(error) })
    }
  }
}

class Bringing {
  readonly #input: FetchLayersInput
  readonly #layer: LayerToFetch
  readonly #isFirst: boolean
  /** Of the download; a blob of the store can be fetched anew. */
  canStartOver: () => boolean = () => true

  constructor(input: FetchLayersInput, layer: LayerToFetch, isFirst: boolean) {
    this.#input = input
    this.#layer = layer
    this.#isFirst = isFirst
  }

  async run(slots: Slots, signal: AbortSignal): Promise<void> {
    const { blobs, slots: all } = this.#input
    const { descriptor } = this.#layer
    if (blobs.has(descriptor.digest)) {
      await this.#unpack(undefined, signal)
      return
    }
    let unpacking: Promise<unknown> | undefined
    await slots.run(() =>
      all.run(async () => {
        await using partial = await blobs.openPartial(descriptor.digest, descriptor.size, signal)
        // Not with our signal: when we leave, it is the growth that ends it, and we wait until it has ended.
        unpacking = this.#unpack(partial.growth)
        await this.#receive(partial, unpacking, signal)
      }),
    )
    // A download's slot is free while the rest is unpacked.
    if (unpacking !== undefined) await untilAborted(unpacking, signal)
  }

  async #receive(partial: PartialBlob, unpacking: Promise<unknown>, signal: AbortSignal): Promise<void> {
    const stop = new AbortController()
    unpacking.catch((error: unknown) => stop.abort(error))
    const either = AbortSignal.any([signal, stop.signal])
    const download = new DownloadParts(this.#input, this.#layer.descriptor, partial, { isFirst: this.#isFirst })
    this.canStartOver = () => download.canStartOver()
    try {
      await download.run(either)
    } catch (error) {
      const isOurs = !either.aborted
      partial.growth.fail(error)
      await unpacking.catch(() => {})
      // An answer that is not of the blob is to bytes that are not the blob's as a lie to another.
      throw isOurs && isKind(error, 'failed-precondition') ? new WrongBlob(error.message) : error
    }
  }

  #unpack(growth: Growth | undefined, signal?: AbortSignal): Promise<unknown> {
    const { diffId, descriptor } = this.#layer
    const compression = layerCompression(descriptor.mediaType)
    return this.#input.layers.unpack({
      diffId,
      blob: descriptor.digest,
      ...(signal !== undefined && { signal }),
      ...(compression !== undefined && { compression }),
      ...(growth !== undefined && { growth }),
    })
  }
}
