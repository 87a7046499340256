/**
 * The file of a blob that is still arriving, perhaps at several places of it at once, while somebody reads it from its beginning. Without gaps its
 * length says what is there; before the first byte is written beyond a gap a journal beside it takes over, one line for each range. A line follows its
 * bytes, so that whoever is killed loses a little and believes nothing that is not there. Nothing is synced: who finds it after a power cut
 * verifies it from its beginning.
 */
import { constants } from 'node:fs'
import { type FileHandle, open, readFile, stat, unlink } from 'node:fs/promises'
import { isErrno } from '#linux/errno.ts'
import { type ByteRange, Extents, extentLines, parseExtents } from './extents.ts'
import { Growth } from './growth.ts'

const OPEN = constants.O_RDWR | constants.O_CREAT
const APPEND = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND
/** Worth a line of its own: what is not noted is lost when we are killed. */
const NOTE_BYTES = 16 * 1024
const JOURNAL = '.extents'

const journalOf = (path: string): string => path + JOURNAL

/** The blob's file that a name in its directory belongs to. */
export const withoutJournal = (name: string): string => name.replace(/\.extents$/, '')

/** What is there of a blob; nothing when there is no file. */
export const readExtents = async (path: string): Promise<{ extents: Extents; length: number; inGaps: boolean }> => {
  const length = (await stat(path).catch(() => undefined))?.size ?? 0
  const journal = await readFile(journalOf(path), 'latin1').catch(unlessMissing)
  if (journal !== undefined) return { extents: parseExtents(journal, length), length, inGaps: true }
  const extents = new Extents()
  extents.add({ start: 0, end: length })
  return { extents, length, inGaps: false }
}

/** After the file was cut to what has no gaps, or is gone: before that, the length would lie. */
export const removeJournal = async (path: string): Promise<void> => {
  await unlink(journalOf(path)).catch(unlessMissing)
}

const unlessMissing = (error: unknown): undefined => {
  if (!isErrno(error, 'ENOENT')) throw error
}

export class PartialBlob implements AsyncDisposable {
  /** Of what is there without a gap from the beginning on. */
  readonly growth: Growth
  readonly #path: string
  readonly #file: FileHandle
  readonly #lock: Disposable
  readonly #extents: Extents
  #journal: Promise<FileHandle> | undefined
  /** There, and not yet in the journal. */
  #unnoted = new Extents()
  #noting: Promise<void> = Promise.resolve()
  #isNoting = false
  #failure: { readonly error: unknown } | undefined

  private constructor(path: string, file: FileHandle, extents: Extents, size: number, lock: Disposable) {
    this.#path = path
    this.#file = file
    this.#lock = lock
    this.#extents = extents
    this.growth = new Growth(size, extents.prefix)
  }

  /** Goes on with what is there, if it can be of a blob of this size. Takes the lock over, also when it fails. */
  static async open(path: string, size: number, lock: Disposable): Promise<PartialBlob> {
    using stack = new DisposableStack()
    stack.use(lock)
    const file = await open(path, OPEN, 0o600)
    try {
      const found = await readExtents(path)
      const isUsable = found.length <= size && found.extents.bytes > 0
      if (!isUsable) {
        await file.truncate(0)
        await removeJournal(path)
      }
      const partial = new PartialBlob(path, file, isUsable ? found.extents : new Extents(), size, lock)
      if (isUsable && found.inGaps) partial.#journal = open(journalOf(path), APPEND, 0o600)
      await partial.#journal
      stack.move()
      return partial
    } catch (error) {
      await file.close()
      throw error
    }
  }

  /** What has not come yet, in order. */
  missing(): ByteRange[] {
    return this.#extents.gaps(this.growth.size)
  }

  /**
   * Writes bytes of this place; done with their memory when it resolves. Throws the file system's errors; after ENOSPC and its like nothing of
   * the blob stays, as nobody could go on with it and others need the room.
   */
  async write(bytes: Uint8Array, at: number): Promise<void> {
    if (at > this.#extents.prefix) await this.#keepJournal()
    for (let done = 0; done < bytes.length; ) {
      if (this.#failure !== undefined) throw this.#failure.error
      try {
        const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, at + done)
        this.#arrived({ start: at + done, end: at + done + bytesWritten })
        done += bytesWritten
      } catch (error) {
        this.#failure ??= { error }
        throw error
      }
    }
  }

  /** Everybody who writes must have ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    using _ = this.#lock
    try {
      await this.#note()
      if (isErrno(this.#failure?.error, 'ENOSPC', 'EDQUOT')) {
        await this.#file.truncate(0)
        await removeJournal(this.#path)
      }
    } finally {
      await this.#file.close()
      await (await this.#journal)?.close()
    }
  }

  #arrived(range: ByteRange): void {
    this.#extents.add(range)
    this.growth.reached(this.#extents.prefix)
    if (this.#journal === undefined) return
    this.#unnoted.add(range)
    // Nobody waits for it: what fails here fails the next write. What comes meanwhile is for the next line.
    if (this.#unnoted.bytes >= NOTE_BYTES && !this.#isNoting) void this.#note()
  }

  /** Resolves when the journal says all that the length of the file said until now. */
  #keepJournal(): Promise<void> {
    if (this.#journal === undefined) {
      this.#journal = open(journalOf(this.#path), APPEND, 0o600)
      for (const range of this.#extents.ranges) this.#unnoted.add(range)
      void this.#note()
    }
    return this.#noting
  }

  #note(): Promise<void> {
    const journal = this.#journal
    if (journal === undefined || this.#unnoted.bytes === 0) return this.#noting
    const lines = extentLines(this.#unnoted)
    this.#unnoted = new Extents()
    this.#isNoting = true
    this.#noting = this.#noting
      .then(async () => void (await (await journal).write(lines)))
      .catch((error: unknown) => {
        this.#failure ??= { error }
      })
      .finally(() => {
        this.#isNoting = false
        if (this.#unnoted.bytes >= NOTE_BYTES) void this.#note()
      })
    return this.#noting
  }
}
