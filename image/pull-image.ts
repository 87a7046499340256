/**
 * The use case: name → manifest for this host → config → layers → record; for artifacts name → manifest → files → record
 * (pull-artifact.ts). The same for a registry and for a layout
 * directory. Nothing is visible before the record is written, and the record is written last.
 */

import { RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { BlobStore } from '#storage/blob-store.ts'
import type { Digest } from '#storage/digest.ts'
import { asDiskError } from '#storage/disk-errors.ts'
import type { KeyedLock } from '#storage/keyed-lock.ts'
import type { LayerStore } from '#storage/layer-store.ts'
import { type ArtifactManifest, parseArtifact } from './artifact.ts'
import { fetchLayers, type LayerToFetch } from './fetch-layers.ts'
import { parseImageConfig } from './image-config.ts'
import { imageIdOf } from './image-id.ts'
import type { ImageRecord } from './image-record.ts'
import type { DocumentTarget, FetchedDocument, ImageSource } from './image-source.ts'
import type { Lease, Leases } from './leases.ts'
import { type Descriptor, type ImageIndex, type ImageManifest, type Platform, parseDocument } from './manifest.ts'
import type { Operation } from './operations.ts'
import { choosePlatform, fitsHost, platformText } from './platform.ts'
import { pullArtifact } from './pull-artifact.ts'
import type { Timing } from './registry/timing.ts'
import type { Slots } from './slots.ts'

export interface PullNeeds {
  readonly blobs: BlobStore
  readonly layers: LayerStore
  readonly platform: Platform
  readonly leases: Leases
  readonly locks: KeyedLock
  /** Of downloads, shared by all pulls. */
  readonly slots: Slots
  /** Told of what arrives, so that it can keep the garbage of busy streams small. */
  readonly collectAfter: (bytes: number) => void
  readonly timing: Timing
  readonly log: Log
  /** What may still be filled on the storage's disk. */
  readonly freeBytes: () => number
}

export interface PullInput {
  readonly source: ImageSource
  readonly target: DocumentTarget
  /** What a pointer to the target says its type is, if there is one. */
  readonly expectedType?: string
  /** Names the target in errors: "docker.io/library/busybox:latest". */
  readonly what: string
  readonly operation: Operation
  /** Makes the names out of the digests that led to the image: what was asked for first, the manifest last. */
  readonly names: (digests: readonly Digest[]) => Pick<ImageRecord, 'repoTags' | 'repoDigests' | 'pinned'>
  /** Writes the record. */
  readonly record: (image: ImageRecord) => Promise<ImageRecord>
}

const MAX_INDEX_DEPTH = 3

/** @throws RuntimeError as listed in image/README.md; the signal's reason */
export const pullImage = async (needs: PullNeeds, input: PullInput, signal: AbortSignal): Promise<ImageRecord> => {
  const { operation } = input
  using lease = needs.leases.take()
  const { manifest, ...found } = await findManifest(needs, input, lease, signal)
  const received = (bytes: number): void => {
    operation.received(bytes)
    needs.collectAfter(bytes)
  }
  const fetch = { ...needs, source: input.source, operation, received }
  if (manifest.kind === 'artifact') return await pullArtifact(fetch, input, { ...found, manifest }, lease, signal)
  operation.enter('reading config')
  await lease.add([manifest.config.digest, ...manifest.layers.map(({ digest }) => digest)])
  const { config, diffIds } = await readConfig(needs, input, { ...found, manifest }, signal)
  await lease.add(diffIds)
  const layers = pairLayers(manifest, diffIds, input.what)
  operation.enter('fetching layers')
  operation.expectLayers(layers.length)
  await fetchLayers(fetch, layers, signal)
  operation.enter('recording')
  return await input.record({
    kind: 'image',
    id: imageIdOf(manifest.config.digest),
    ...input.names(found.trail),
    sizeBytes: sizeOf(manifest),
    diffIds,
    layerBlobs: manifest.layers.map(({ digest }) => digest),
    config,
    manifestDigest: found.digest,
    pulledAt: new Date().toISOString(),
  })
}

interface FoundManifest<Manifest = ImageManifest | ArtifactManifest> {
  readonly manifest: Manifest
  readonly digest: Digest
  /** Digests of the documents from what was asked for to the manifest. */
  readonly trail: readonly Digest[]
}

const findManifest = async (
  needs: PullNeeds,
  { source, target, expectedType, what }: PullInput,
  lease: Lease,
  signal: AbortSignal,
): Promise<FoundManifest> => {
  let fetched = await source.document(target, signal)
  let expected: { type: string | undefined } = { type: expectedType }
  const trail: Digest[] = []
  let isBesideImages = false
  for (let depth = 0; depth <= MAX_INDEX_DEPTH; depth++) {
    trail.push(fetched.digest)
    const document = readDocument(fetched.bytes, {
      what: `Document "${fetched.digest}" of "${what}"`,
      ...(fetched.contentType !== undefined && { contentType: fetched.contentType }),
      ...(expected.type !== undefined && { expectedType: expected.type }),
    })
    await lease.add([fetched.digest])
    await keep(needs.blobs, fetched, signal)
    if (document.kind === 'artifact' && isBesideImages) throw notForHost(needs, what)
    if (document.kind !== 'index') return { manifest: document, digest: fetched.digest, trail }
    const entry = choosePlatform(document, needs.platform, `Image "${what}"`)
    expected = { type: entry.mediaType }
    isBesideImages = !entry.platform && document.entries.some(({ platform }) => platform)
    fetched = await source.document({ digest: entry.digest }, signal)
    if (fetched.bytes.length !== entry.size) throw wrongSize(entry, fetched, what)
  }
  throw new RuntimeError(
    'failed-precondition',
    `Image "${what}" has indexes in indexes, more than ${MAX_INDEX_DEPTH} deep`,
  )
}

const readDocument = (
  bytes: Buffer,
  about: Parameters<typeof parseDocument>[1],
): ImageIndex | ImageManifest | ArtifactManifest => {
  const document = parseDocument(bytes, about)
  return document.kind === 'other' ? parseArtifact(bytes, about.what) : document
}

/** What accompanies the images of other platforms, a signature or a list of parts, is not what was asked for. */
const notForHost = ({ platform }: PullNeeds, what: string): RuntimeError =>
  new RuntimeError('failed-precondition', `Image "${what}" has nothing for ${platformText(platform)}, only an artifact`)

const wrongSize = (entry: Descriptor, { bytes }: FetchedDocument, what: string): RuntimeError =>
  new RuntimeError(
    'failed-precondition',
    `Document "${entry.digest}" of "${what}" has ${bytes.length} bytes, its index says ${entry.size}`,
  )

/** Documents stay in the blob store: they are small and prove later what the image is. */
const keep = async (
  blobs: BlobStore,
  { digest, bytes }: { digest: Digest; bytes: Buffer },
  signal: AbortSignal,
): Promise<void> => {
  if (blobs.has(digest)) return
  try {
    await blobs.put(digest, only(bytes), { size: bytes.length, signal })
  } catch (error) {
    throw asDiskError(error, `Cannot store document "${digest}"`)
  }
}

async function* only(bytes: Buffer): AsyncGenerator<Uint8Array, void, undefined> {
  yield bytes
}

const readConfig = async (
  needs: PullNeeds,
  { source, what }: PullInput,
  { manifest, trail }: FoundManifest<ImageManifest>,
  signal: AbortSignal,
): Promise<ReturnType<typeof parseImageConfig>> => {
  const { digest } = manifest.config
  const bytes = await source.smallBlob(manifest.config, signal)
  const parsed = parseImageConfig(bytes, `Config "${digest}" of "${what}"`)
  refuseOtherPlatform(needs, parsed.config, { what, chosenByIndex: trail.length > 1 })
  await keep(needs.blobs, { digest, bytes }, signal)
  return parsed
}

const refuseOtherPlatform = (
  { platform, log }: PullNeeds,
  { architecture, os }: { architecture: string; os: string },
  { what, chosenByIndex }: { what: string; chosenByIndex: boolean },
): void => {
  if (fitsHost(architecture, os, platform)) return
  const text = `${platformText({ architecture, os })}, this host is ${platformText(platform)}`
  // Many cross-built images carry the builder's architecture in their config; the index knows better.
  if (chosenByIndex && fitsHost('', os, platform)) {
    log.warn('Image config names another platform than its index', { what, text })
    return
  }
  throw new RuntimeError('failed-precondition', `Image "${what}" is for ${text}`)
}

const pairLayers = (
  { layers }: ImageManifest,
  diffIds: readonly LayerToFetch['diffId'][],
  what: string,
): LayerToFetch[] => {
  if (layers.length !== diffIds.length) {
    throw new RuntimeError(
      'failed-precondition',
      `Image "${what}" has ${layers.length} layers but its config lists ${diffIds.length} diff ids`,
    )
  }
  return layers.flatMap((descriptor, index) => {
    const diffId = diffIds[index]
    return diffId === undefined ? [] : [{ diffId, descriptor }]
  })
}

/** The kubelet takes an image of size 0 for a broken answer. */
const sizeOf = ({ config, layers }: ImageManifest): bigint =>
  layers.reduce((sum, { size }) => sum + BigInt(size), BigInt(Math.max(config.size, 1)))
