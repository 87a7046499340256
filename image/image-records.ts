/**
 * The image records on disk and in memory. Writes are one after the other: new content durable, then published. What
 * cannot be read is put aside under quarantine/ and forgotten; the next pull of that image makes it whole again. An image
 * that misses a layer is not shown, but its record and its other layers stay: the next pull fetches what is missing.
 *
 * A tag that moves from image A to image B is two files. B is written first, with a higher revision, so that a crash in
 * between leaves both with the tag and the next start gives it to B. A's file is brought up to date before B could ever
 * be removed, or A would get the tag back.
 */

import { readdir, rename, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import type { Linux } from '#linux/linux.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { KeyedLock } from '#storage/keyed-lock.ts'
import { readRecord, writeRecord } from '#storage/record.ts'
import { makeDirectory } from '#storage/sync-directory.ts'
import { withAdditional } from './additional-images.ts'
import { Catalog } from './catalog.ts'
import type { ImageId } from './image-id.ts'
import { type ImageRecord, type StoredRecord, storedRecordField, toStored } from './image-record.ts'

export interface ImageRecordsInput {
  /** Directory of the records; made when missing. */
  readonly root: string
  readonly linux: Linux
  readonly log: Log
  /** Whether everything that the image needs to run is there. */
  readonly isComplete: (image: ImageRecord) => boolean
  /** Images that are shown besides; see additional-images.ts. */
  readonly additional?: () => readonly ImageRecord[]
}

/** An image that cannot be used until it is pulled again. */
export interface IncompleteImage {
  readonly image: ImageRecord
  readonly sinceMs: number
}

const QUARANTINE = 'quarantine'
export const RECORD_FILE = /^sha(?:256-[0-9a-f]{64}|512-[0-9a-f]{128})\.json$/
const UNFINISHED = /\.tmp$/

export class ImageRecords {
  readonly #input: ImageRecordsInput
  readonly #writing = new KeyedLock()
  #stored: ReadonlyMap<ImageId, StoredRecord>
  #catalog: Catalog
  #incomplete: ReadonlyMap<ImageId, IncompleteImage> = new Map()
  /** Images whose file still claims a tag that has moved. */
  readonly #lagging = new Set<ImageId>()

  private constructor(input: ImageRecordsInput, found: readonly StoredRecord[]) {
    this.#input = input
    this.#stored = withoutStaleTags(found)
    this.#catalog = this.#look()
    for (const { image } of found) {
      if (this.#stored.get(image.id)?.image.repoTags.length !== image.repoTags.length) this.#lagging.add(image.id)
    }
  }

  /** Reads all records; never fails because of a bad one. */
  static async open(input: ImageRecordsInput): Promise<ImageRecords> {
    await makeDirectory(input.root)
    await makeDirectory(join(input.root, QUARANTINE))
    const found: StoredRecord[] = []
    for (const name of (await readdir(input.root)).sort()) {
      if (UNFINISHED.test(name)) await unlink(join(input.root, name))
      const record = RECORD_FILE.test(name) ? await loadOrQuarantine(input, name) : undefined
      if (record) found.push(record)
    }
    return new ImageRecords(input, found)
  }

  /** Whether there is a record of ours. */
  has(id: ImageId): boolean {
    return this.#stored.has(id)
  }

  /** The images that can be used. */
  get catalog(): Catalog {
    return this.#catalog
  }

  /** Those that miss a layer. */
  get incomplete(): readonly IncompleteImage[] {
    return [...this.#incomplete.values()]
  }

  /** All of them. */
  get everything(): Catalog {
    return new Catalog([...this.#stored.values()].map(({ image }) => image))
  }

  /** Writes a record again whose file was found damaged; nothing happens when there is no such image. */
  async rewrite(file: string): Promise<void> {
    using _ = await this.#writing.take('records')
    for (const record of this.#stored.values()) if (recordFile(record.image.id) === file) await this.#write(record)
  }

  /** To be called when a layer went. */
  recheck(): void {
    this.#catalog = this.#look()
  }

  /**
   * Adds an image, or to an image. Its tags leave whoever had them; what the image had before (other tags, digests,
   * being pinned) stays.
   */
  async add(image: ImageRecord): Promise<ImageRecord> {
    using _ = await this.#writing.take('records')
    const before = this.#stored.get(image.id)?.image
    // A document that is both a manifest and a configuration: made to be taken for the other.
    if (before && before.kind !== image.kind) {
      throw new RuntimeError('failed-precondition', `${image.kind} "${image.id}" has the id of an ${before.kind}`)
    }
    const merged = before ? merge(before, image) : image
    const changed = new Map<ImageId, StoredRecord>([[image.id, { revision: this.#nextRevision(), image: merged }]])
    for (const { image: other } of this.#stored.values()) {
      const kept = other.repoTags.filter((tag) => !merged.repoTags.includes(tag))
      if (other.id === image.id || kept.length === other.repoTags.length) continue
      changed.set(other.id, { revision: this.#nextRevision() + changed.size, image: { ...other, repoTags: kept } })
    }
    const [first, ...others] = changed.values()
    if (first) await this.#write(first)
    this.#publish(new Map([...this.#stored, ...changed]))
    for (const { image: other } of others) this.#lagging.add(other.id)
    await this.#catchUp().catch((cause) =>
      this.#input.log.warn('Cannot write image records', { cause: messageOf(cause) }),
    )
    return merged
  }

  /** Forgets an image with all its names; nothing happens when it is not there. */
  async remove(id: ImageId): Promise<void> {
    using _ = await this.#writing.take('records')
    if (!this.#stored.has(id)) return
    this.#lagging.delete(id)
    await this.#catchUp()
    try {
      await unlink(join(this.#input.root, recordFile(id)))
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error
    }
    this.#publish(new Map([...this.#stored].filter(([other]) => other !== id)))
    this.#input.linux.fsyncDirectory(this.#input.root)
  }

  #publish(stored: ReadonlyMap<ImageId, StoredRecord>): void {
    this.#stored = stored
    this.#catalog = this.#look()
  }

  /** Which images are complete, and since when the others are not. */
  #look(): Catalog {
    const images = [...this.#stored.values()].map(({ image }) => image)
    const lacking = images.filter((image) => !this.#input.isComplete(image))
    const before = this.#incomplete
    this.#incomplete = new Map(
      lacking.map((image) => [image.id, { image, sinceMs: before.get(image.id)?.sinceMs ?? Date.now() }]),
    )
    for (const { id, repoTags } of lacking)
      if (!before.has(id)) this.#input.log.error('Image misses a layer; pull it again', { id, repoTags })
    const complete = images.filter(({ id }) => !this.#incomplete.has(id))
    const additional = (this.#input.additional?.() ?? []).filter(this.#input.isComplete)
    return new Catalog(withAdditional(complete, additional))
  }

  #nextRevision(): number {
    return Math.max(0, ...[...this.#stored.values()].map(({ revision }) => revision)) + 1
  }

  async #write(record: StoredRecord): Promise<void> {
    const path = join(this.#input.root, recordFile(record.image.id))
    await writeRecord(path, toStored(record), { durable: true })
  }

  async #catchUp(): Promise<void> {
    for (const id of this.#lagging) {
      const record = this.#stored.get(id)
      if (record) await this.#write(record)
      this.#lagging.delete(id)
    }
  }
}

export const recordFile = (id: ImageId): string => `${id.replace(':', '-')}.json`

const merge = (before: ImageRecord, now: ImageRecord): ImageRecord => ({
  ...now,
  repoTags: union(now.repoTags, before.repoTags),
  repoDigests: union(now.repoDigests, before.repoDigests),
  pinned: now.pinned || before.pinned,
})

const union = (first: readonly string[], second: readonly string[]): string[] => [...new Set([...first, ...second])]

const loadOrQuarantine = async (input: ImageRecordsInput, name: string): Promise<StoredRecord | undefined> => {
  const path = join(input.root, name)
  const read = await readRecord(path, storedRecordField)
  if (read.is === 'missing') return undefined
  if (read.is === 'whole' && recordFile(read.record.image.id) === name) return read.record
  const why = read.is === 'damaged' ? read.why : 'is the record of another image'
  const aside = join(input.root, QUARANTINE, `${name}.${Date.now()}`)
  input.log.error('Image record is damaged, put aside; pull the image again', { path, aside, why })
  await rename(path, aside)
  input.linux.fsyncDirectory(input.root)
  return undefined
}

/** Newest first keeps the tag. */
const withoutStaleTags = (found: readonly StoredRecord[]): Map<ImageId, StoredRecord> => {
  const taken = new Set<string>()
  const stored = new Map<ImageId, StoredRecord>()
  for (const { revision, image } of [...found].sort((a, b) => b.revision - a.revision)) {
    const repoTags = image.repoTags.filter((tag) => !taken.has(tag))
    for (const tag of repoTags) taken.add(tag)
    stored.set(image.id, { revision, image: { ...image, repoTags } })
  }
  return stored
}
