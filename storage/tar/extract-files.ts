/**
 * Entries of an archive that may hold regular files and directories, and nothing else → files in the directory that is the thread's
 * root. Owners, modes, times and attributes of the archive count for nothing. For confined threads.
 */
import { closeSync, constants, ftruncateSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { isErrno } from '#linux/errno.ts'
import { toBytes } from '../tree/bytes.ts'
import type { TarEntry } from './entry.ts'
import type { EntrySink } from './read-entries.ts'
import { refused, shown, tooMuch } from './refused.ts'
import { type PathInLayer, parentOf, pathInLayer, ROOT } from './safe-path.ts'

export interface ExtractLimits {
  /** Of the archive once it is decompressed, and of any file in it. */
  readonly bytes: number
  readonly files: number
}

const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

export class FileExtractor implements EntrySink {
  readonly #limits: ExtractLimits
  readonly #directories = new Set<string>([ROOT])
  #open: { readonly fd: number; readonly size: number; position: number } | undefined
  #files = 0

  constructor(limits: ExtractLimits) {
    this.#limits = limits
  }

  begin(entry: TarEntry): void {
    const path = pathInLayer(entry.name)
    if (++this.#files > this.#limits.files) throw tooMuch(`Archive has more than ${this.#limits.files} entries`)
    if (entry.kind === 'directory') this.#directory(path)
    else if (entry.kind === 'file') this.#file(entry, path)
    else throw refused(`Archive has a ${entry.kind}, which it must not: ${shown(entry.name)}`)
  }

  data(bytes: Buffer, position: number): void {
    if (this.#open === undefined) return
    const { fd } = this.#open
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, position + done)
    this.#open.position = position + bytes.length
  }

  end(): void {
    if (this.#open !== undefined && this.#open.position < this.#open.size) ftruncateSync(this.#open.fd, this.#open.size)
    this.close()
  }

  /** Lets go of what is open, after success or failure. */
  close(): void {
    if (this.#open !== undefined) closeSync(this.#open.fd)
    this.#open = undefined
  }

  #directory(path: PathInLayer): void {
    if (this.#directories.has(path)) return
    this.#directory(parentOf(path))
    if (this.#directories.size > this.#limits.files)
      throw tooMuch(`Archive has more than ${this.#limits.files} directories`)
    notThere(path, () => mkdirSync(toBytes(path), 0o700))
    this.#directories.add(path)
  }

  #file(entry: TarEntry, path: PathInLayer): void {
    if (path === ROOT) throw refused('Archive has a file in place of its root')
    if (entry.size > this.#limits.bytes)
      throw tooMuch(`Archive has a file of ${entry.size} bytes: ${shown(entry.name)}`)
    this.#directory(parentOf(path))
    this.#open = { fd: notThere(path, () => openSync(toBytes(path), CREATE, 0o600)), size: entry.size, position: 0 }
  }
}

const notThere = <T>(path: PathInLayer, make: () => T): T => {
  try {
    return make()
  } catch (error) {
    if (isErrno(error, 'EEXIST', 'ENOTDIR')) throw refused(`Archive has two entries of one name: ${shown(path)}`)
    throw error
  }
}
