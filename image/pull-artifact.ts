/**
 * The rest of a pull whose manifest turned out to be that of an artifact: its blobs are fetched as they are and become a
 * tree of files, which is a layer like any other, so that volumes and garbage collection need to know nothing of it.
 */

import type { Digest } from '#storage/digest.ts'
import { treeIdOf } from '#storage/file-tree.ts'
import { type ArtifactManifest, filesOf } from './artifact.ts'
import {
  downloadInto,
  type FetchLayersInput,
  inParallel,
  PARALLEL_DOWNLOADS,
  refuseWithoutSpace,
} from './fetch-layers.ts'
import { imageIdOf } from './image-id.ts'
import type { ImageRecord } from './image-record.ts'
import type { Lease } from './leases.ts'
import type { Descriptor } from './manifest.ts'
import type { PullInput } from './pull-image.ts'
import { Slots } from './slots.ts'

export interface FoundArtifact {
  readonly manifest: ArtifactManifest
  readonly digest: Digest
  readonly trail: readonly Digest[]
}

/** @throws RuntimeError as `pullImage` does */
export const pullArtifact = async (
  fetch: FetchLayersInput,
  input: PullInput,
  { manifest, digest, trail }: FoundArtifact,
  lease: Lease,
  signal: AbortSignal,
): Promise<ImageRecord> => {
  const { operation, what } = input
  const tree = filesOf(manifest, `Artifact "${what}"`)
  const treeId = treeIdOf(tree)
  const shown = new Set(tree.map(({ blob }) => blob))
  const blobs = new Map(manifest.blobs.map(({ descriptor }) => [descriptor.digest, descriptor]))
  const wanted = [...blobs.values()].filter((blob) => shown.has(blob.digest))
  await lease.add([treeId, ...shown])
  operation.enter('fetching layers')
  operation.expectLayers(wanted.length)
  {
    // A pull of an image with the same blob would remove it once that is unpacked. In order, so that no two wait in a ring.
    using held = new DisposableStack()
    for (const blob of [...shown].sort()) held.use(await fetch.locks.take(`blob ${blob}`, signal))
    await fetchBlobs(fetch, wanted, signal)
    await fetch.layers.assemble(tree)
  }
  operation.enter('recording')
  return input.record({
    kind: 'artifact',
    // Many artifacts have the same empty config, so it cannot be what tells them apart.
    id: imageIdOf(digest),
    ...input.names(trail),
    sizeBytes: sizeOf(wanted),
    diffIds: [treeId],
    layerBlobs: wanted.map((blob) => blob.digest),
    artifactType: manifest.artifactType,
    manifestDigest: digest,
    pulledAt: new Date().toISOString(),
  })
}

const fetchBlobs = (fetch: FetchLayersInput, wanted: readonly Descriptor[], signal: AbortSignal): Promise<void> => {
  const missing = wanted.filter(({ digest }) => !fetch.blobs.has(digest))
  refuseWithoutSpace(fetch, missing)
  const slots = new Slots(PARALLEL_DOWNLOADS)
  return inParallel(
    wanted,
    async (blob, both) => {
      await downloadInto(fetch, blob, slots, both)
      fetch.operation.layerDone()
    },
    signal,
  )
}

/** The kubelet takes an image of size 0 for a broken answer. */
const sizeOf = (blobs: readonly Descriptor[]): bigint => {
  const bytes = blobs.reduce((sum, { size }) => sum + BigInt(size), 0n)
  return bytes > 0n ? bytes : 1n
}
