/** Mark and sweep: what the images keep and what rootfs stand on stays, all other layers go, then what hung on them. */
import type { Log } from '#proto/log.ts'
import type { DiffId } from './digest.ts'
import type { FixUpStore } from './fix-up-store.ts'
import type { LayerStore } from './layer-store.ts'
import type { RootfsStore } from './rootfs-store.ts'
import type { Usage } from './tree/measure-tree.ts'

/** What went. */
export interface Collected extends Usage {
  readonly layers: DiffId[]
}

export interface CollectInput {
  /** The layers of all images, and of pulls that are under way. */
  readonly keep: ReadonlySet<DiffId>
  readonly layers: LayerStore
  readonly fixUps: FixUpStore
  readonly rootfs: RootfsStore
  readonly log: Log
}

export const collectGarbage = async ({ keep, layers, fixUps, rootfs, log }: CollectInput): Promise<Collected> => {
  const removed: DiffId[] = []
  let bytes = 0
  let inodes = 0
  for (const layer of layers.list()) {
    // Asked again for each: a rootfs may have been created while an earlier layer was removed.
    if (keep.has(layer.diffId) || rootfs.uses(layer.diffId)) continue
    await layers.remove(layer.diffId)
    removed.push(layer.diffId)
    bytes += layer.bytes
    inodes += layer.inodes
  }
  // Who stands on a layer that was put aside stands on its fix-up, too.
  await fixUps.collectGarbage((diffId) => layers.has(diffId) || rootfs.uses(diffId))
  if (removed.length > 0) log.info('Removed unused layers', { layers: removed.length, bytes, inodes })
  return { layers: removed, bytes, inodes }
}
