/** What a driver is asked to show: a stack of trees, with or without a writable one on top. */
import { existsSync } from 'node:fs'
import type { IdMap, IdRange } from '#linux/user-namespace.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { DiffId } from '../digest.ts'
import type { FixUpStore } from '../fix-up-store.ts'
import type { LayerInfo } from '../layer-store.ts'

/** A tree in overlayfs form. */
export interface Tree {
  /** What it is; the same content has the same id. */
  readonly id: string
  readonly path: string
}

export interface Snapshot {
  /** Bottom first, none twice: what shows, with fix-ups. May be empty. */
  readonly trees: readonly Tree[]
  /** Of the root directory; ids of the image. */
  readonly root: RootAttributes
  readonly readonly: boolean
  /** Those of the driver, flags of the mount (nosuid, nodev, noexec) and `context=`. */
  readonly options: readonly string[]
  readonly idMap: IdMap | undefined
}

export type RootAttributes = NonNullable<LayerInfo['root']>

/** Throws not-found for a layer that is not there, or not any more. */
export const presentLayer = (layers: { get(diffId: DiffId): LayerInfo | undefined }, diffId: DiffId): LayerInfo => {
  const layer = layers.get(diffId)
  if (layer === undefined) throw new RuntimeError('not-found', `Layer "${diffId}" is not in the store`)
  if (layer.store !== undefined && !existsSync(layer.path))
    throw new RuntimeError('not-found', `Layer "${diffId}" is gone from the additional image store "${layer.store}"`)
  return layer
}

/** Layers (bottom first) as trees: cut below one that hides all others, the same one only once, with the fix-ups that they need. */
export const treesOf = async (stack: readonly LayerInfo[], fixUps: FixUpStore): Promise<Tree[]> => {
  const visible = stack.slice(
    Math.max(
      0,
      stack.findLastIndex(({ opaqueRoot }) => opaqueRoot),
    ),
  )
  const all = await fixUps.treesOn(visible)
  // The same layer twice is one layer, the upper one: overlayfs refuses a directory that occurs again.
  return all.filter(({ path }, index) => !all.slice(index + 1).some((above) => above.path === path))
}

/** The root directory's attributes as the topmost layer that describes it has them. */
export const rootOf = (stack: readonly LayerInfo[]): RootAttributes =>
  stack.findLast(({ root }) => root !== undefined)?.root ?? { mode: 0o755, uid: 0, gid: 0 }

/** The root directory of a writable tree: ids of the image as the host sees them; who is not mapped is nobody, so root. */
export const rootOwner = ({ root, idMap }: Pick<Snapshot, 'root' | 'idMap'>): { uid: number; gid: number } => ({
  uid: hostId(root.uid, idMap?.uids),
  gid: hostId(root.gid, idMap?.gids),
})

const hostId = (id: number, range: IdRange | undefined): number =>
  range === undefined ? id : range.hostId + (id < range.size ? id : 0)
