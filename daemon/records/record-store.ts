/**
 * Sandboxes and containers on disk and in memory: a directory per object with `config.json` (written once, durably,
 * before the first side effect) and `status.json` (replaced atomically). Readers get snapshots and never wait.
 */
import { mkdir, readdir, rename, rm, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import type { Linux } from '#linux/linux.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { asDiskError, isDiskFault } from '#storage/disk-errors.ts'
import { sealed, unseal } from '#storage/record.ts'
import { makeDirectory, syncDirectory } from '#storage/sync-directory.ts'
import { OwedWrites } from './owed-writes.ts'
import { Stored } from './stored.ts'

/** How a kind of object is written down. Both `parse` functions throw on anything they do not understand. */
export interface RecordCodec<Id extends string, R, S> {
  /** What messages call such an object: "sandbox", "container". */
  readonly noun: string
  parseId(text: string): Id | undefined
  recordToJson(record: R): unknown
  parseRecord(json: unknown): R
  parseStatus(json: unknown): S
  /** The status of a record whose first status was never written. */
  readonly initial: S
  /** The status of a record whose status cannot be read: the object is at its end, and gives back what it holds. */
  afterDamage(): S
  /** Whether clients may see it: an unfinished creation is nobody's business yet. */
  isVisible(status: S): boolean
}

/** What has just become of an object; told in the tick in which readers see it. */
export type Change<R, S> =
  | { readonly is: 'updated'; readonly object: Stored<R, S>; readonly before: S }
  | { readonly is: 'deleted'; readonly object: Stored<R, S> }

export class RecordStore<Id extends string, R extends { readonly id: Id; readonly key: string }, S> {
  readonly #dir: string
  readonly #codec: RecordCodec<Id, R, S>
  readonly #linux: Linux
  readonly #log: Log
  readonly #byId = new Map<Id, Stored<R, S>>()
  readonly #byKey = new Map<string, Stored<R, S>>()
  readonly #owed: OwedWrites<Id>
  readonly #watchers: ((change: Change<R, S>) => void)[] = []

  constructor(options: { dir: string; codec: RecordCodec<Id, R, S>; linux: Linux; log: Log }) {
    this.#dir = options.dir
    this.#codec = options.codec
    this.#linux = options.linux
    this.#log = options.log
    this.#owed = new OwedWrites(options.codec.noun, options.log)
  }

  /** Tell this one of every change from now on. It must not throw: the change has happened. */
  watch(watcher: (change: Change<R, S>) => void): void {
    this.#watchers.push(watcher)
  }

  #tell(change: Change<R, S>): void {
    for (const watcher of this.#watchers) {
      try {
        watcher(change)
      } catch (cause) {
        this.#log.error(`Cannot tell of a change of a ${this.#codec.noun}`, { id: change.object.record.id, cause })
      }
    }
  }

  /**
   * Read all records. A damaged one is set aside under `quarantine/` with its reason in the log; none is deleted. Where only
   * the status is damaged the object stays, at its end.
   */
  async load(): Promise<void> {
    await makeDirectory(this.#dir)
    for (const name of await readdir(this.#dir)) {
      const id = this.#codec.parseId(name)
      if (id === undefined) continue
      try {
        await this.#loadOne(id)
      } catch (cause) {
        await this.#quarantine(name, cause)
      }
    }
  }

  async #loadOne(id: Id): Promise<void> {
    const config = await this.#linux.readFileIfExists(join(this.#dir, id, 'config.json'))
    if (config === undefined) {
      // Died before the record was whole, or half-way through deleting it: nothing was, or is, owned by it.
      await rm(join(this.#dir, id), { recursive: true, force: true })
      return
    }
    const record = this.#codec.parseRecord(contentOf(config))
    this.#publish(record, await this.#loadStatus(id))
  }

  async #loadStatus(id: Id): Promise<S> {
    try {
      const status = await this.#linux.readFileIfExists(join(this.#dir, id, 'status.json'))
      return status ? this.#codec.parseStatus(contentOf(status)) : this.#codec.initial
    } catch (cause) {
      await this.#quarantine(join(id, 'status.json'), cause)
      const status = this.#codec.afterDamage()
      await this.#writeStatus(id, status, true)
      return status
    }
  }

  /** @param path below the directory of the store */
  async #quarantine(path: string, cause: unknown): Promise<void> {
    const aside = join(this.#dir, 'quarantine')
    this.#log.error(`Setting aside damaged ${this.#codec.noun} record "${path}"`, { cause, directory: aside })
    await mkdir(aside, { recursive: true, mode: 0o700 })
    await rename(join(this.#dir, path), join(aside, `${path.replaceAll('/', '.')}.${Date.now()}`))
  }

  /**
   * Write the record (durable) and its first status, and publish it.
   * @throws RuntimeError already-exists when another object has the same key.
   */
  async create(record: R, status: S): Promise<Stored<R, S>> {
    const holder = this.#byKey.get(record.key)
    if (holder) {
      throw new RuntimeError(
        'already-exists',
        `Cannot create ${this.#codec.noun} "${record.key}": it exists with id "${holder.record.id}"`,
      )
    }
    // Taken at once, so that two callers that got here together cannot both write.
    const stored = this.#publish(record, status)
    try {
      const dir = join(this.#dir, record.id)
      await mkdir(dir, { mode: 0o700 })
      await this.#writeRecord(record)
      // Also the name of the directory: what the object will hold is on disk elsewhere, and this says whose it is.
      await syncDirectory(this.#dir)
      await this.#writeStatus(record.id, status, false)
    } catch (error) {
      await this.#takeBack(record.id)
      throw isDiskFault(error)
        ? asDiskError(error, `Cannot write the record of a ${this.#codec.noun}`, this.#dir)
        : error
    }
    return stored
  }

  /** A disk that refuses even this is no reason to keep the key from others: the next daemon finds it, and undoes it. */
  async #takeBack(id: Id): Promise<void> {
    try {
      await this.delete(id)
    } catch (cause) {
      this.#log.error(`Cannot remove the record of a ${this.#codec.noun} that was not made`, { id, cause })
      this.#forget(id)
    }
  }

  /** Replace the record of an object that only its creator knows yet; the object that it gave before is void. */
  async amend(record: R, status: S): Promise<Stored<R, S>> {
    await this.#writeRecord(record)
    return this.#publish(record, status)
  }

  #publish(record: R, status: S): Stored<R, S> {
    const stored: Stored<R, S> = new Stored<R, S>(
      record,
      status,
      (next, durable) => this.#writeStatus(record.id, next, durable),
      (before) => this.#tell({ is: 'updated', object: stored, before }),
      (error) => this.#owed.add(record.id, () => stored.rewrite(), error),
    )
    this.#byId.set(record.id, stored)
    this.#byKey.set(record.key, stored)
    return stored
  }

  #writeRecord(record: R): Promise<void> {
    return this.#write(record.id, 'config.json', toJson(this.#codec.recordToJson(record)), true)
  }

  async #writeStatus(id: Id, status: S, durable: boolean): Promise<void> {
    await this.#write(id, 'status.json', toJson(status), durable)
    this.#owed.forget(id)
  }

  /** @throws RuntimeError resource-exhausted when the disk is full, unavailable when it takes nothing more */
  async #write(id: Id, name: string, text: string, durable: boolean): Promise<void> {
    const path = join(this.#dir, id, name)
    try {
      await this.#linux.writeFileAtomic(path, text, { mode: 0o600, durable })
    } catch (error) {
      throw isDiskFault(error) ? asDiskError(error, `Cannot write "${path}"`, this.#dir) : error
    }
  }

  /** Writes both files of an object again, of which one was found damaged. Nothing happens when there is no such object. */
  async rewrite(id: Id): Promise<void> {
    const stored = this.#byId.get(id)
    if (stored === undefined) return
    await this.#writeRecord(stored.record)
    await stored.rewrite()
  }

  get(id: Id): Stored<R, S> | undefined {
    return this.#byId.get(id)
  }

  byKey(key: string): Stored<R, S> | undefined {
    return this.#byKey.get(key)
  }

  /** All objects as of now, the unfinished ones too, in no particular order. */
  all(): Stored<R, S>[] {
    return [...this.#byId.values()]
  }

  /** The objects that clients may see as of now, in no particular order. */
  visible(): Stored<R, S>[] {
    return this.all().filter(({ status }) => this.#codec.isVisible(status))
  }

  /**
   * The visible object that a caller means by a full id or an unambiguous prefix of one.
   * @throws RuntimeError invalid-argument when the text is empty or fits several.
   */
  find(idOrPrefix: string): Stored<R, S> | undefined {
    if (idOrPrefix === '') throw new RuntimeError('invalid-argument', `The ${this.#codec.noun} id is empty`)
    const exact = this.#byText(idOrPrefix)
    if (exact) return this.#codec.isVisible(exact.status) ? exact : undefined
    const matches = this.visible().filter(({ record }) => record.id.startsWith(idOrPrefix))
    if (matches.length > 1) {
      throw new RuntimeError(
        'invalid-argument',
        `The ${this.#codec.noun} id "${idOrPrefix}" fits ${matches.length} of them`,
      )
    }
    return matches[0]
  }

  /** The whole id, which is what the kubelet always gives. */
  #byText(text: string): Stored<R, S> | undefined {
    const id = this.#codec.parseId(text)
    return id && this.#byId.get(id)
  }

  /** As `find`, but throws RuntimeError not-found when there is none. */
  require(idOrPrefix: string): Stored<R, S> {
    const stored = this.find(idOrPrefix)
    if (!stored) throw new RuntimeError('not-found', `No ${this.#codec.noun} has the id "${idOrPrefix}"`)
    return stored
  }

  /** Forget the object on disk, for good, then in memory; only then is its key free again. */
  async delete(id: Id): Promise<void> {
    const dir = join(this.#dir, id)
    this.#owed.forget(id)
    await this.#byId.get(id)?.settled()
    // Without its record the rest is nobody's. It has to be gone first: a power cut may keep what was removed later.
    await removeFor(dir, 'config.json')
    await rm(dir, { recursive: true, force: true })
    this.#forget(id)
  }

  #forget(id: Id): void {
    const stored = this.#byId.get(id)
    this.#byId.delete(id)
    if (!stored) return
    if (this.#byKey.get(stored.record.key) === stored) this.#byKey.delete(stored.record.key)
    this.#tell({ is: 'deleted', object: stored })
  }
}

const removeFor = async (dir: string, name: string): Promise<void> => {
  try {
    await unlink(join(dir, name))
    await syncDirectory(dir)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
}

/** Records of before had no checksum. @throws Error when the file is damaged */
const contentOf = (file: Buffer): unknown => {
  const found = unseal(file.toString())
  if (found.is === 'damaged') throw new Error(`The file ${found.why}`)
  return found.content
}

/** Nanoseconds do not fit a JSON number, so bigints are written as decimal strings; the schemas turn them back. */
const toJson = (value: unknown): string =>
  sealed(JSON.stringify(value, (_key, v) => (typeof v === 'bigint' ? v.toString() : v), 2))
