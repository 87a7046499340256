/**
 * Blobs by digest. A blob appears under its name only when it is whole, verified and on disk; one that is still arriving
 * is a partial file that a later attempt, even of another process, goes on with.
 */
import { createReadStream } from 'node:fs'
import { chmod, type FileHandle, link, mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { isErrno } from '#linux/errno.ts'
import { RuntimeError } from '#proto/errors.ts'
import { algorithmOf, type Digest, type DigestStream, digestOf, digestStream, isDigest } from './digest.ts'
import { asDiskError } from './disk-errors.ts'
import { KeyedLock } from './keyed-lock.ts'
import { digestText, type Layout, nameOf } from './layout.ts'
import { PartialBlob, readExtents, removeJournal, withoutJournal } from './partial-blob.ts'
import type { Quarantine } from './quarantine.ts'
import { syncDirectory } from './sync-directory.ts'
import type { Usage } from './tree/measure-tree.ts'

export interface PutOptions {
  /** Bytes of the whole blob, as its descriptor says. */
  readonly size?: number
  readonly signal?: AbortSignal
  /** The source starts at this byte; the bytes before are those that `partial` reported. */
  readonly resumeFrom?: number
}

const CHUNK = 256 * 1024

export class BlobStore {
  readonly #layout: Layout
  readonly #quarantine: Quarantine
  readonly #sizes = new Map<Digest, number>()
  readonly #locks = new KeyedLock()

  private constructor(layout: Layout, quarantine: Quarantine) {
    this.#layout = layout
    this.#quarantine = quarantine
  }

  static async open(layout: Layout, quarantine: Quarantine): Promise<BlobStore> {
    const store = new BlobStore(layout, quarantine)
    for (const name of await readdir(layout.blobs)) {
      const digest = digestText(name)
      const path = join(layout.blobs, name)
      if (isDigest(digest)) store.#sizes.set(digest, (await stat(path)).size)
      else await quarantine.take(path, 'is not named after a digest')
    }
    return store
  }

  has(digest: Digest): boolean {
    return this.#sizes.has(digest)
  }

  /** Bytes of a whole blob. */
  size(digest: Digest): number | undefined {
    return this.#sizes.get(digest)
  }

  list(): Digest[] {
    return [...this.#sizes.keys()]
  }

  /** How many bytes of an unfinished blob are there from its beginning on; 0 when none are. */
  async partial(digest: Digest): Promise<number> {
    return (await readExtents(this.#partialPath(digest))).extents.prefix
  }

  /**
   * Stores what `source` gives under `digest`. When the source breaks or the signal aborts, what has come stays for
   * resuming. Throws failed-precondition, and keeps nothing, when the bytes are not those of the digest or not of that
   * size; resource-exhausted when the disk is full. Does nothing when the blob is there.
   */
  async put(digest: Digest, source: AsyncIterable<Uint8Array>, options: PutOptions = {}): Promise<void> {
    using _ = await this.#locks.take(digest, options.signal)
    if (this.has(digest)) return
    const path = this.#partialPath(digest)
    try {
      const size = await this.#receive(path, digest, source, options)
      await rename(path, this.#path(digest))
      await syncDirectory(this.#layout.blobs)
      this.#sizes.set(digest, size)
    } catch (error) {
      if (error instanceof Mismatch) await unlink(path)
      // Nobody can resume onto a full disk, and others need the room.
      else if (isErrno(error, 'ENOSPC', 'EDQUOT')) await unlink(path).catch(() => {})
      throw isErrno(error, 'ENOSPC', 'EDQUOT', 'EIO', 'EROFS')
        ? asDiskError(error, `Cannot store blob "${digest}"`)
        : error
    }
  }

  /**
   * The file of a blob of this size that is to arrive, for somebody who reads it meanwhile and verifies what he reads. Nobody else can have it
   * before it is disposed of. What has come stays, whatever happens; `remove` ends it.
   */
  async openPartial(digest: Digest, size: number, signal?: AbortSignal): Promise<PartialBlob> {
    const lock = await this.#locks.take(digest, signal)
    return PartialBlob.open(this.#partialPath(digest), size, lock)
  }

  /** All of a small blob, verified. Throws not-found, resource-exhausted beyond `maxBytes`, failed-precondition when damaged. */
  async read(digest: Digest, { maxBytes }: { maxBytes: number }): Promise<Buffer> {
    await using file = await this.#openFile(digest)
    const { size } = await file.stat()
    if (size > maxBytes)
      throw new RuntimeError('resource-exhausted', `Blob "${digest}" has ${size} bytes, allowed are ${maxBytes}`)
    const bytes = await file.readFile()
    if (digestOf(bytes, algorithmOf(digest)) === digest) return bytes
    await this.quarantine(digest, 'does not match its digest')
    throw new RuntimeError('failed-precondition', `Blob "${digest}" is damaged`)
  }

  /** A stream of a whole blob, not verified again. Errors, also of a missing blob, come from the stream. */
  open(digest: Digest): Readable {
    return createReadStream(this.#path(digest), { highWaterMark: CHUNK })
  }

  /** Where a whole blob is. */
  pathOf(digest: Digest): string {
    return this.#path(digest)
  }

  /** Gives a whole blob a second name, which outlives it here; from now on everybody who gets there may read it, nobody write. */
  async link(digest: Digest, path: string): Promise<void> {
    using _ = await this.#locks.take(digest)
    if (!this.has(digest)) throw new RuntimeError('not-found', `Blob "${digest}" is not in the store`)
    await chmod(this.#path(digest), 0o444)
    await link(this.#path(digest), path)
  }

  /** Removes a blob, whole or partial. Idempotent. */
  async remove(digest: Digest): Promise<void> {
    using _ = await this.#locks.take(digest)
    this.#sizes.delete(digest)
    for (const path of [this.#path(digest), this.#partialPath(digest)])
      await unlink(path).catch((error) => {
        if (!isErrno(error, 'ENOENT')) throw error
      })
    await removeJournal(this.#partialPath(digest))
  }

  /** Puts a blob that turned out damaged aside, so that it is fetched again. */
  async quarantine(digest: Digest, why: string): Promise<void> {
    this.#sizes.delete(digest)
    await this.#quarantine.take(this.#path(digest), why)
  }

  /**
   * Removes all blobs, whole and partial, that are neither kept nor arriving at this moment.
   * @param spareMs partial ones that grew within this time stay, too: somebody may come back for them
   */
  async collectGarbage({ keep, spareMs = 0 }: { keep: ReadonlySet<Digest>; spareMs?: number }): Promise<void> {
    const names = (await readdir(this.#layout.partialBlobs)).map((name) => digestText(withoutJournal(name)))
    const partial = new Set(names.filter(isDigest))
    const removable = (digest: Digest): boolean => !keep.has(digest) && !this.#locks.isHeld(digest)
    for (const digest of this.list()) if (removable(digest)) await this.remove(digest)
    for (const digest of partial)
      if (removable(digest) && (await this.#partialAgeMs(digest)) >= spareMs) await this.remove(digest)
  }

  async #partialAgeMs(digest: Digest): Promise<number> {
    const found = await stat(this.#partialPath(digest)).catch(() => undefined)
    // A clock that was set back must not keep them for ever.
    return found === undefined ? Number.POSITIVE_INFINITY : Math.abs(Date.now() - found.mtimeMs)
  }

  usage(): Usage {
    let bytes = 0
    for (const size of this.#sizes.values()) bytes += Math.ceil(size / 4096) * 4096
    return { bytes, inodes: this.#sizes.size }
  }

  /** Appends the source to the partial file. Returns the size of the whole. */
  async #receive(
    path: string,
    digest: Digest,
    source: AsyncIterable<Uint8Array>,
    { size: wanted, signal, resumeFrom = 0 }: PutOptions,
  ): Promise<number> {
    await mkdir(this.#layout.partialBlobs, { recursive: true, mode: 0o700 })
    await using file = await open(path, resumeFrom > 0 ? 'r+' : 'w+', 0o600)
    const hash = digestStream(algorithmOf(digest))
    let size = await rehash(file, hash, resumeFrom, digest)
    await removeJournal(path)
    const limit = wanted ?? Number.POSITIVE_INFINITY
    for await (const bytes of source) {
      signal?.throwIfAborted()
      if (size + bytes.length > limit) throw new Mismatch(`Blob "${digest}" has more than its ${limit} bytes`)
      await writeWhole(file, bytes, size)
      hash.update(bytes)
      size += bytes.length
    }
    signal?.throwIfAborted()
    if (wanted !== undefined && size < wanted) throw incomplete(digest, size, wanted)
    const actual = hash.digest()
    if (actual !== digest) throw new Mismatch(`Blob "${digest}" came with the digest "${actual}"`)
    await file.sync()
    return size
  }

  async #openFile(digest: Digest): Promise<FileHandle> {
    try {
      return await open(this.#path(digest), 'r')
    } catch (error) {
      if (isErrno(error, 'ENOENT')) throw new RuntimeError('not-found', `Blob "${digest}" is not in the store`)
      throw asDiskError(error, `Cannot open blob "${digest}"`)
    }
  }

  #path(digest: Digest): string {
    return join(this.#layout.blobs, nameOf(digest))
  }

  #partialPath(digest: Digest): string {
    return join(this.#layout.partialBlobs, nameOf(digest))
  }
}

/** The bytes are wrong, so nothing of them is worth keeping. */
class Mismatch extends RuntimeError {
  constructor(message: string) {
    super('failed-precondition', message)
  }
}

/** Not wrong, only short: the rest may still come. */
const incomplete = (digest: Digest, size: number, wanted: number): RuntimeError =>
  new RuntimeError('unavailable', `Blob "${digest}" ended after ${size} of ${wanted} bytes`)

/** Brings the hash to where the source goes on, and cuts what was written beyond. */
const rehash = async (file: FileHandle, hash: DigestStream, length: number, digest: Digest): Promise<number> => {
  const chunk = Buffer.allocUnsafe(CHUNK)
  let done = 0
  while (done < length) {
    const { bytesRead } = await file.read(chunk, 0, Math.min(CHUNK, length - done), done)
    if (bytesRead === 0)
      throw new RuntimeError(
        'invalid-argument',
        `Blob "${digest}" cannot be resumed at ${length}, only ${done} bytes are there`,
      )
    hash.update(chunk.subarray(0, bytesRead))
    done += bytesRead
  }
  await file.truncate(length)
  return length
}

const writeWhole = async (file: FileHandle, bytes: Uint8Array, position: number): Promise<void> => {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done)
    done += bytesWritten
  }
}
