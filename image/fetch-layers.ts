/**
 * The layers of one image: at most three downloads at a time, each layer unpacked while its blob arrives. One lock per diff id makes pulls that share a layer share its work.
 */

import { isKind, RuntimeError } from '#proto/errors.ts'
import type { DiffId, Digest } from '#storage/digest.ts'
import { asDiskError } from '#storage/disk-errors.ts'
import type { KeyedLock } from '#storage/keyed-lock.ts'
import type { LayerStore } from '#storage/layer-store.ts'
import { bringLayer } from './bring-layer.ts'
import { type DownloadInput, downloadBlob } from './download-blob.ts'
import type { PartsSettings } from './download-parts.ts'
import type { Descriptor } from './manifest.ts'
import { isEncrypted, layerCompression, plainType } from './media-types.ts'
import type { Operation } from './operations.ts'
import { Slots } from './slots.ts'

export interface FetchLayersInput extends DownloadInput {
  readonly layers: LayerStore
  /** Shared by all pulls of a store. */
  readonly locks: KeyedLock
  /** Of downloads, shared by all pulls. */
  readonly slots: Slots
  readonly parts: PartsSettings
  readonly operation: Operation
  /** What may still be filled on the storage's disk. */
  readonly freeBytes: () => number
  /** Makes a plain blob of an encrypted one that is here. */
  readonly decrypt: (encrypted: Digest, signal: AbortSignal) => Promise<Digest>
}

export interface LayerToFetch {
  readonly diffId: DiffId
  readonly descriptor: Descriptor
}

/** Of one pull. */
export const PARALLEL_DOWNLOADS = 3

/** Resolves when every layer is in the layer store. The first failure stops the others and is thrown. */
export const fetchLayers = async (
  input: FetchLayersInput,
  layers: readonly LayerToFetch[],
  signal: AbortSignal,
): Promise<void> => {
  const missing = layers.filter(({ diffId }) => !input.layers.has(diffId))
  refuseWithoutSpace(
    input,
    missing.map(({ descriptor }) => descriptor),
  )
  const slots = new Slots(PARALLEL_DOWNLOADS)
  await inParallel(
    layers,
    async (layer, both) => {
      await fetchLayer(input, layer, slots, both)
      input.operation.layerDone()
    },
    signal,
  )
}

/** Resolves when all are done and none is running any more. The first failure stops the others and is thrown. */
export const inParallel = async <T>(
  items: readonly T[],
  fetch: (item: T, signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> => {
  const stop = new AbortController()
  const both = AbortSignal.any([signal, stop.signal])
  let failure: { error: unknown } | undefined
  const fetches = items.map(async (item) => {
    try {
      await fetch(item, both)
    } catch (error) {
      failure ??= { error }
      stop.abort(error)
    }
  })
  await Promise.all(fetches)
  signal.throwIfAborted()
  if (failure) throw failure.error
}

/** A manifest may claim any size: better no download at all than one that fills the disk and then fails. */
export const refuseWithoutSpace = ({ freeBytes }: FetchLayersInput, missing: readonly Descriptor[]): void => {
  const needed = missing.reduce((sum, { size }) => sum + size, 0)
  if (missing.length === 0 || needed <= freeBytes()) return
  throw new RuntimeError('resource-exhausted', `No space left for ${needed} bytes of layers`)
}

/** Brings a blob here if it is not; the caller holds its lock. */
export const downloadInto = async (
  input: FetchLayersInput,
  descriptor: Descriptor,
  slots: Slots,
  signal: AbortSignal,
): Promise<void> => {
  if (input.blobs.has(descriptor.digest)) return
  await slots.run(() => input.slots.run(() => downloadBlob(input, descriptor, signal)))
}

const fetchLayer = async (
  input: FetchLayersInput,
  { diffId, descriptor }: LayerToFetch,
  slots: Slots,
  signal: AbortSignal,
): Promise<void> => {
  const { blobs, layers, locks } = input
  using _layer = await locks.take(`layer ${diffId}`, signal)
  if (layers.has(diffId)) return
  // Always after the layer's lock, so that two pulls cannot wait for each other.
  using _blob = await locks.take(`blob ${descriptor.digest}`, signal)
  if (isEncrypted(descriptor.mediaType)) {
    await downloadInto(input, descriptor, slots, signal)
    return await unpackEncrypted(input, { diffId, descriptor }, signal)
  }
  try {
    await bringLayer(input, { diffId, descriptor }, slots, signal)
  } catch (error) {
    // A blob that is no such layer will never be one; kept, it would make every later pull fail without asking anew.
    // When it is another layer that failed, this one's unpacking may go on, for others.
    if (!signal.aborted && isKind(error, 'failed-precondition')) await blobs.remove(descriptor.digest)
    throw asDiskError(error, `Cannot unpack layer "${descriptor.digest}"`)
  }
  // The layer is what counts; its compressed form would only take the same space again.
  await blobs.remove(descriptor.digest)
}

/** The same by way of a plain blob, which only we know and which goes in any case. */
const unpackEncrypted = async (
  input: FetchLayersInput,
  { diffId, descriptor }: LayerToFetch,
  signal: AbortSignal,
): Promise<void> => {
  const { blobs, layers } = input
  const plain = await input.decrypt(descriptor.digest, signal)
  try {
    const compression = layerCompression(plainType(descriptor.mediaType))
    await layers.unpack({ diffId, blob: plain, signal, ...(compression !== undefined && { compression }) })
    await blobs.remove(descriptor.digest)
  } catch (error) {
    throw asDiskError(error, `Cannot unpack layer "${descriptor.digest}"`)
  } finally {
    await blobs.remove(plain)
  }
}
