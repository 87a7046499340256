/**
 * What was found to speak for an image when it came, one file per image id: a container is created without asking a
 * registry, by the policy of that moment. Lost or damaged, it is as if nothing had been found; the next pull finds it again.
 */

import { mkdir, readdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import { isErrno } from '#linux/errno.ts'
import type { Log } from '#proto/log.ts'
import { KeyedLock } from '#storage/keyed-lock.ts'
import { readRecord, writeRecord } from '#storage/record.ts'
import { digestField } from '../digest-field.ts'
import type { ImageId } from '../image-id.ts'
import { evidenceField, MAX_SIGNATURES } from './evidence.ts'

const testimonyField = z.object({
  version: z.literal(1),
  /** Documents that were seen to lead to the image, manifests and indexes. */
  digests: z.array(digestField),
  signatures: z.array(evidenceField),
  /** Out of which files an operator loaded it. */
  loadedFrom: z.array(z.object({ transport: z.string(), path: z.string() })).default([]),
})

export type Testimony = Readonly<Omit<z.infer<typeof testimonyField>, 'version'>>

export const NOTHING: Testimony = { digests: [], signatures: [], loadedFrom: [] }

export class EvidenceStore {
  readonly #dir: string
  readonly #log: Log
  readonly #locks = new KeyedLock()

  private constructor(dir: string, log: Log) {
    this.#dir = dir
    this.#log = log
  }

  /** @param isKnown what is of no image is removed */
  static async open(dir: string, isKnown: (id: string) => boolean, log: Log): Promise<EvidenceStore> {
    await mkdir(dir, { recursive: true, mode: 0o700 })
    for (const name of await readdir(dir)) {
      if (!name.endsWith('.json') || !isKnown(name.slice(0, -'.json'.length).replace('-', ':')))
        await unlink(join(dir, name))
    }
    return new EvidenceStore(dir, log)
  }

  async read(id: ImageId): Promise<Testimony> {
    const path = this.#path(id)
    const found = await readRecord(path, testimonyField)
    if (found.is === 'whole') return found.record
    if (found.is === 'damaged')
      this.#log.warn('Kept signatures are damaged; pull the image again', { path, why: found.why })
    return NOTHING
  }

  /** Adds to what is known, durable. */
  async add(id: ImageId, found: Partial<Testimony>): Promise<void> {
    using _ = await this.#locks.take(id)
    const before = await this.read(id)
    const now = {
      version: 1,
      digests: distinct([...(found.digests ?? []), ...before.digests], MAX_DIGESTS),
      // New ones first: when there are too many, the old ones go.
      signatures: distinct([...(found.signatures ?? []), ...before.signatures], MAX_SIGNATURES),
      loadedFrom: distinct([...(found.loadedFrom ?? []), ...before.loadedFrom], MAX_FILES),
    }
    if (JSON.stringify({ version: 1, ...before }) === JSON.stringify(now)) return
    await writeRecord(this.#path(id), now, { durable: true })
  }

  /** Idempotent. */
  async remove(id: ImageId): Promise<void> {
    using _ = await this.#locks.take(id)
    await unlink(this.#path(id)).catch((error) => {
      if (!isErrno(error, 'ENOENT')) throw error
    })
  }

  #path(id: ImageId): string {
    return join(this.#dir, `${id.replace(':', '-')}.json`)
  }
}

const MAX_DIGESTS = 64
const MAX_FILES = 16

const distinct = <T>(all: readonly T[], limit: number): T[] => {
  const seen = new Map(all.map((each) => [JSON.stringify(each), each]))
  return [...seen.values()].slice(0, limit)
}
