/**
 * The use case: name → manifest for this host → config → layers → record; for artifacts name → manifest → files → record
 * (pull-artifact.ts). The same for a registry and for a layout
 * directory. Nothing is visible before the record is written, and the record is written last.
 */

import { RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { BlobStore } from '#storage/blob-store.ts'
import type { DiffId, Digest } from '#storage/digest.ts'
import { withSubject } from '#storage/disk-errors.ts'
import type { KeyedLock } from '#storage/keyed-lock.ts'
import type { LayerStore } from '#storage/layer-store.ts'
import { type ArtifactManifest, parseArtifact } from './artifact.ts'
import type { PartsSettings } from './download-parts.ts'
import { decryptBlob } from './encryption/decrypt-blob.ts'
import { decryptionKeys } from './encryption/decryption-keys.ts'
import { layerKeys } from './encryption/layer-keys.ts'
import { fetchLayers, type LayerToFetch } from './fetch-layers.ts'
import { parseImageConfig } from './image-config.ts'
import { imageIdOf } from './image-id.ts'
import type { ImageRecord } from './image-record.ts'
import type { DocumentTarget, FetchedDocument, ImageSource } from './image-source.ts'
import { keepDocument } from './keep-document.ts'
import type { Lease, Leases } from './leases.ts'
import { type Descriptor, type ImageIndex, type ImageManifest, type Platform, parseDocument } from './manifest.ts'
import { bareMediaType, documentKind, OCI_INDEX, OCI_MANIFEST } from './media-types.ts'
import type { Operation } from './operations.ts'
import { choosePlatform, fitsHost, platformText } from './platform.ts'
import { pullArtifact } from './pull-artifact.ts'
import type { Timing } from './registry/timing.ts'
import type { Slots } from './slots.ts'

export interface PullNeeds {
  readonly blobs: BlobStore
  readonly layers: LayerStore
  /** Makes what layers (bottom first) need beside themselves, or says that they do not go together. */
  readonly complete: (stack: readonly DiffId[]) => Promise<void>
  readonly platform: Platform
  readonly leases: Leases
  readonly locks: KeyedLock
  /** Of downloads, shared by all pulls. */
  readonly slots: Slots
  readonly parts: PartsSettings
  readonly timing: Timing
  readonly log: Log
  /** What may still be filled on the storage's disk. */
  readonly freeBytes: () => number
  /** Private keys for encrypted layers. */
  readonly decryptionKeysDir: string
}

export interface PullInput {
  readonly source: ImageSource
  readonly target: DocumentTarget
  /** What a pointer to the target says its type is, if there is one. */
  readonly expectedType?: string
  /** Names the target in errors: "docker.io/library/busybox:latest". */
  readonly what: string
  readonly operation: Operation
  /** Whether what was found may come here; called before anything but documents is fetched. */
  readonly admit: (
    found: { readonly top: Descriptor; readonly trail: readonly Digest[] },
    signal: AbortSignal,
  ) => Promise<void>
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
  operation.enter('checking signatures')
  await input.admit(found, signal)
  const received = (bytes: number): void => operation.received(bytes)
  const keys = layerKeys(manifest.kind === 'artifact' ? [] : manifest.layers, input.what, () =>
    decryptionKeys(needs.decryptionKeysDir, needs.log),
  )
  const decrypt = (digest: Digest, both: AbortSignal): Promise<Digest> => {
    const key = keys.get(digest)
    if (key === undefined) throw new RuntimeError('internal', `There is no key for layer "${digest}"`)
    return decryptBlob(needs.blobs, digest, key, (plain) => lease.add([plain]), both)
  }
  const fetch = { ...needs, source: input.source, operation, received, decrypt }
  if (manifest.kind === 'artifact') return await pullArtifact(fetch, input, { ...found, manifest }, lease, signal)
  operation.enter('reading config')
  await lease.add([manifest.config.digest, ...manifest.layers.map(({ digest }) => digest)])
  const { config, diffIds } = await readConfig(needs, input, { ...found, manifest }, signal)
  await lease.add(diffIds)
  const layers = pairLayers(manifest, diffIds, input.what)
  operation.enter('fetching layers')
  operation.expectLayers(layers.length)
  await fetchLayers(fetch, layers, signal)
  await completed(needs, diffIds, input.what)
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
  /** The first of them. */
  readonly top: Descriptor
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
  let top: Descriptor | undefined
  let isBesideImages = false
  for (let depth = 0; depth <= MAX_INDEX_DEPTH; depth++) {
    trail.push(fetched.digest)
    const document = readDocument(fetched.bytes, {
      what: `Document "${fetched.digest}" of "${what}"`,
      ...(fetched.contentType !== undefined && { contentType: fetched.contentType }),
      ...(expected.type !== undefined && { expectedType: expected.type }),
    })
    await lease.add([fetched.digest])
    await keepDocument(needs.blobs, fetched, signal)
    top ??= { mediaType: typeOf(document, fetched, expectedType), digest: fetched.digest, size: fetched.bytes.length }
    if (document.kind === 'artifact' && isBesideImages) throw notForHost(needs, what)
    if (document.kind !== 'index') return { manifest: document, digest: fetched.digest, trail, top }
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

/** All who say it say the same, or the document would have been refused. */
const typeOf = (
  document: ImageIndex | ImageManifest | ArtifactManifest,
  { contentType }: FetchedDocument,
  expected: string | undefined,
): string => {
  const said = bareMediaType(contentType)
  if (documentKind(said) !== undefined) return said
  return expected ?? (document.kind === 'index' ? OCI_INDEX : OCI_MANIFEST)
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
  await keepDocument(needs.blobs, { digest, bytes }, signal)
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

const completed = async ({ complete }: PullNeeds, diffIds: readonly DiffId[], what: string): Promise<void> => {
  try {
    await complete(diffIds)
  } catch (error) {
    throw withSubject(error, `Layers of image "${what}" do not go together`)
  }
}

/** The kubelet takes an image of size 0 for a broken answer. */
const sizeOf = ({ config, layers }: ImageManifest): bigint =>
  layers.reduce((sum, { size }) => sum + BigInt(size), BigInt(Math.max(config.size, 1)))
