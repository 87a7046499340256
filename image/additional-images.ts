/**
 * Images of additional stores: directories that other daemons, or whoever built the node, keep as we keep ours. They are shown like our
 * own where we have no image of that id or name, cannot be removed, and go with their store. Nothing is written there.
 */
import { stat } from 'node:fs/promises'
import type { Log } from '#proto/log.ts'
import { readRecord } from '#storage/record.ts'
import type { Storage } from '#storage/storage.ts'
import { checkImages } from './check-images.ts'
import { type ImageRecord, storedRecordField } from './image-record.ts'
import type { ImageRecords } from './image-records.ts'

export class AdditionalImages {
  readonly #roots: readonly string[]
  readonly #log: Log
  images: readonly ImageRecord[] = []
  /** What the directories were when they were read. */
  #seen = ''

  private constructor(roots: readonly string[], log: Log) {
    this.#roots = roots
    this.#log = log
  }

  /** @param roots directories of image records, the first one first */
  static async open(roots: readonly string[], log: Log): Promise<AdditionalImages> {
    const additional = new AdditionalImages(roots, log)
    await additional.refresh()
    return additional
  }

  /** Looks again. Returns whether anything is other than it was. */
  async refresh(): Promise<boolean> {
    const seen = (await Promise.all(this.#roots.map(identityOf))).join()
    if (seen === this.#seen) return false
    this.#seen = seen
    await this.#read()
    return true
  }

  async #read(): Promise<void> {
    const byId = new Map<string, ImageRecord>()
    for (const root of this.#roots) {
      const { findings, stacks } = await checkImages(root)
      for (const { path, why } of findings)
        this.#log.warn('An additional image store has a damaged record', { path, why })
      for (const { id, path } of stacks) {
        const read = await readRecord(path, storedRecordField)
        // Nobody can free the place that it takes: as if it were pinned.
        if (read.is === 'whole' && !byId.has(id)) byId.set(id, { ...read.record.image, pinned: true })
      }
    }
    this.images = [...byId.values()]
  }
}

/** Shows what additional stores have now. */
export const lookAtStores = async (storage: Storage, others: AdditionalImages, own: ImageRecords): Promise<void> => {
  const changes = [await storage.refreshAdditional(), await others.refresh()]
  if (changes.includes(true)) own.recheck()
}

const identityOf = async (directory: string): Promise<string> => {
  const found = await stat(directory, { bigint: true }).catch(() => undefined)
  return found === undefined ? 'gone' : `${found.dev}:${found.ino}:${found.mtimeNs}`
}

/** Ours with what the others have besides: an id, or a name, that we have is ours. */
export const withAdditional = (own: readonly ImageRecord[], additional: readonly ImageRecord[]): ImageRecord[] => {
  const ids = new Set(own.map(({ id }) => id))
  const names = new Set(own.flatMap(({ repoTags }) => repoTags))
  const others = additional
    .filter(({ id }) => !ids.has(id))
    .map((image) => ({ ...image, repoTags: image.repoTags.filter((tag) => !names.has(tag)) }))
  return [...own, ...others]
}
