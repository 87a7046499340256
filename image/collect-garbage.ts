/**
 * Removes what no image needs: layers and documents that no record names and no running pull counts on. Layers under a
 * container's rootfs stay, the storage sees to that.
 */

import { type DiffId, type Digest, isDigest } from '#storage/digest.ts'
import type { Storage } from '#storage/storage.ts'
import type { ImageRecord } from './image-record.ts'
import type { Leases } from './leases.ts'

export interface CollectNeeds {
  readonly storage: Storage
  readonly leases: Leases
  readonly images: () => readonly ImageRecord[]
}

/** A pull that failed is tried again within minutes; what it had received is then still there. */
const SPARE_PARTIAL_MS = 60 * 60 * 1000

/** One collection at a time; pulls that begin meanwhile wait for its end before they look what is there. */
export const collectGarbage = ({ storage, leases, images }: CollectNeeds): Promise<void> =>
  leases.collecting(async () => {
    const leased = leases.digests
    const keptLayers = new Set<DiffId>([...images().flatMap(({ diffIds }) => diffIds), ...leased.map(asDiffId)])
    const keptBlobs = new Set<Digest>([...images().flatMap(documentsOf), ...leased])
    await storage.collectGarbage({ keep: keptLayers })
    await storage.blobs.collectGarbage({ keep: keptBlobs, spareMs: SPARE_PARTIAL_MS })
  })

/** Leases do not tell diff ids from blobs: one digest too many in a set of things to keep does no harm. */
const asDiffId = (digest: Digest): DiffId => digest as DiffId

/** Config, manifest and the indexes that led to it. Layer blobs are not kept; those of artifacts are the files themselves. */
const documentsOf = ({ kind, id, manifestDigest, repoDigests, layerBlobs }: ImageRecord): Digest[] => [
  id,
  manifestDigest,
  ...(kind === 'artifact' ? layerBlobs : []),
  ...repoDigests.map((name) => name.slice(name.indexOf('@') + 1)).filter(isDigest),
]
