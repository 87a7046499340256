/**
 * Layers of other storages that are only read: images that a node was delivered with, or that many nodes share. Nothing is written
 * there, put aside or locked; what is damaged there is not used. A store that comes, changes or vanishes is noticed when looked at.
 */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { type DiffId, isDigest } from './digest.ts'
import { LayerRecord } from './layer-record.ts'
import type { LayerInfo } from './layer-store.ts'
import { digestText, type Layout, layoutOf, recordIn, requireVersion, treeIn } from './layout.ts'
import { readRecord } from './record.ts'

interface Store {
  readonly layout: Layout
  /** What the directory of layers was when it was read; undefined: not there. */
  seen: string | undefined
  layers: ReadonlyMap<DiffId, LayerInfo>
}

export class AdditionalLayers {
  readonly #stores: readonly Store[]
  readonly #log: Log

  private constructor(roots: readonly string[], log: Log) {
    this.#stores = roots.map((root) => ({ layout: layoutOf(root), seen: '', layers: new Map() }))
    this.#log = log
  }

  /** @param roots of storages, the first one first */
  static async open(roots: readonly string[], log: Log): Promise<AdditionalLayers> {
    const additional = new AdditionalLayers(roots, log)
    await additional.refresh()
    return additional
  }

  get roots(): string[] {
    return this.#stores.map(({ layout }) => layout.root)
  }

  get(diffId: DiffId): LayerInfo | undefined {
    for (const { layers } of this.#stores) {
      const layer = layers.get(diffId)
      if (layer !== undefined) return layer
    }
    return undefined
  }

  /** Looks again. Returns whether anything is other than it was. */
  async refresh(): Promise<boolean> {
    const changes = await Promise.all(this.#stores.map((store) => this.#look(store)))
    return changes.includes(true)
  }

  async #look(store: Store): Promise<boolean> {
    const { layout } = store
    const seen = await identityOf(layout.layers)
    if (seen === store.seen) return false
    try {
      store.layers = seen === undefined ? new Map() : await this.#read(layout)
      if (seen === undefined) this.#log.error('An additional image store is gone', { store: layout.root })
      else this.#log.info('Use additional image store', { store: layout.root, layers: store.layers.size })
    } catch (error) {
      store.layers = new Map()
      this.#log.error('Cannot use an additional image store', { store: layout.root, why: messageOf(error) })
    }
    store.seen = seen
    return true
  }

  async #read(layout: Layout): Promise<Map<DiffId, LayerInfo>> {
    await requireVersion(layout)
    const layers = new Map<DiffId, LayerInfo>()
    for (const name of await readdir(layout.layers)) {
      const directory = join(layout.layers, name)
      const found = isDigest(digestText(name)) ? await readRecord(recordIn(directory), LayerRecord) : undefined
      if (found?.is === 'whole' && found.record.diffId === digestText(name))
        layers.set(found.record.diffId, { ...found.record, path: treeIn(directory), store: layout.root })
      else this.#log.warn('An additional image store has a damaged layer', { directory })
    }
    return layers
  }
}

const identityOf = async (directory: string): Promise<string | undefined> => {
  const found = await stat(directory, { bigint: true }).catch(() => undefined)
  return found?.isDirectory() ? `${found.dev}:${found.ino}:${found.mtimeNs}` : undefined
}
