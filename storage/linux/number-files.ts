/**
 * Numbers out of many small files of the kernel, read and found in one native call (native/numbers.c): a list of statistics reads a
 * thousand files, and each by itself would cost several times in JavaScript what it costs in the kernel.
 */
import { closeSync } from 'node:fs'
import { errnoName, LinuxError } from './errno.ts'
import { GONE, letGo, mayHold } from './held-file.ts'
import { rawNumbers } from './sys.ts'

/** Five 32-bit integers describe a file to the native side: these, and before the last where its names begin and how many they are. */
const FD = 0
const PATH = 1
const RESULT = 4
const ENTRY = 5

/** Instead of a descriptor: the file is to be opened, and kept open or not; or there is none. */
const KEEP = -1
const PASS = -2
const NONE = -3

/** At once in one native call. */
const MOST_FILES = 512
const MAX_PATH = 4096

const gone: ReadonlySet<string> = new Set(GONE)

/** Names behind which numbers stand, as the native side has them: one behind the other, each with its NUL. */
let texts = Buffer.alloc(0)

export interface Names {
  /** Where they begin. */
  readonly at: number
  readonly count: number
}

/**
 * Names at the beginning of a line, fastest when in the order of the file; '' is the beginning of the file. A name that begins with a space
 * is found anywhere in the rest of the line of the name before. Each is kept for good: for constants only.
 */
export const names = (...list: readonly string[]): Names => {
  const at = texts.length
  texts = Buffer.concat([texts, Buffer.from(list.map((name) => `${name}\0`).join(''))])
  return { at, count: list.length }
}

/** Some files that are read together, such as those of a cgroup. */
export class NumberFiles {
  /** How many files, and how many numbers they have together. */
  readonly files: number
  readonly count: number
  readonly #pathOf: (file: number) => string | undefined
  readonly #isKept: boolean
  readonly #entries: Int32Array
  #areOpen = false

  /**
   * @param wanted of each file
   * @param pathOf where it is; undefined for a file that this host does not have
   * @param isKept whether the files stay open, to be read again and again
   */
  constructor(wanted: readonly Names[], pathOf: (file: number) => string | undefined, { isKept }: { isKept: boolean }) {
    this.files = wanted.length
    this.count = wanted.reduce((sum, { count }) => sum + count, 0)
    this.#pathOf = pathOf
    this.#isKept = isKept
    this.#entries = new Int32Array(wanted.length * ENTRY)
    for (const [file, { at, count }] of wanted.entries()) this.#entries.set([PASS, 0, at, count, 0], file * ENTRY)
  }

  /** Puts them into a reading. */
  addTo(reading: Reading, at: number): void {
    if (!this.#areOpen) this.#prepare(reading)
    reading.entries.set(this.#entries, at * ENTRY)
  }

  /**
   * Learns what has become of files that were opened or could not be read. Returns whether it is worth reading once more: a cgroup of the
   * same path may have taken the place of the one that was open.
   */
  settle(entries: Int32Array, at: number): { again: boolean; failure: LinuxError | undefined } {
    let [again, areOpen] = [false, true]
    let failure: LinuxError | undefined
    for (let file = 0; file < this.files; file++) {
      const fd = this.#fd(file)
      const result = entries[(at + file) * ENTRY + RESULT] ?? 0
      if (fd === NONE) continue
      if (result >= 0) this.#entries[file * ENTRY + FD] = entries[(at + file) * ENTRY + FD] ?? PASS
      else {
        const why = errnoName(result)
        if (!gone.has(why)) failure ??= new LinuxError(why, 'read', this.#pathOf(file))
        again ||= fd >= 0
        this.#forget(file)
      }
      areOpen &&= this.#fd(file) >= 0
    }
    this.#areOpen = areOpen
    return { again: again && failure === undefined, failure }
  }

  /** Lets go of the files; the next reading opens them again. */
  close(): void {
    for (let file = 0; file < this.files; file++) this.#forget(file)
    this.#areOpen = false
  }

  /** Paths, and whether to keep open, of those that are not open. */
  #prepare(reading: Reading): void {
    for (let file = 0; file < this.files; file++) {
      if (this.#fd(file) >= 0) continue
      const path = this.#pathOf(file)
      if (path !== undefined) this.#entries[file * ENTRY + PATH] = reading.addPath(path)
      const isKept = this.#fd(file) === KEEP || (this.#isKept && path !== undefined && mayHold())
      this.#entries[file * ENTRY + FD] = path === undefined ? NONE : isKept ? KEEP : PASS
    }
  }

  #fd(file: number): number {
    return this.#entries[file * ENTRY + FD] ?? NONE
  }

  #forget(file: number): void {
    const fd = this.#fd(file)
    if (fd === PASS || fd === NONE) return
    if (fd >= 0) closeSync(fd)
    this.#entries[file * ENTRY + FD] = PASS
    letGo()
  }
}

/** What the native side is given; one, as readings are over before anybody else's turn. */
class Reading {
  readonly #bytes = Buffer.alloc(MOST_FILES * ENTRY * Int32Array.BYTES_PER_ELEMENT)
  readonly entries = new Int32Array(this.#bytes.buffer, this.#bytes.byteOffset, MOST_FILES * ENTRY)
  #paths = Buffer.alloc(64 * 1024)
  #pathsEnd = 0

  begin(): void {
    this.#pathsEnd = 0
  }

  addPath(path: string): number {
    const at = this.#pathsEnd
    if (Buffer.byteLength(path) >= MAX_PATH) throw new LinuxError('ENAMETOOLONG', 'open', path)
    if (at + MAX_PATH > this.#paths.length) this.#paths = Buffer.concat([this.#paths, Buffer.alloc(this.#paths.length)])
    this.#pathsEnd += this.#paths.write(`${path}\0`, at)
    return at
  }

  /** Returns whether there is something to settle. */
  read(count: number, into: Buffer): boolean {
    return rawNumbers(this.#bytes, count, texts, this.#paths, into) > 0
  }
}

let reading: Reading | undefined

/**
 * The numbers of all these, one after the other. What is not a number in them is not in the file; so is everything of files that are gone.
 * @throws LinuxError for a file that cannot be read for another reason
 */
export const readNumbers = (groups: readonly NumberFiles[]): Float64Array => {
  const all = new Float64Array(groups.reduce((sum, { count }) => sum + count, 0))
  let at = 0
  for (let first = 0; first < groups.length; ) {
    let [last, files, count] = [first, 0, 0]
    for (const group of groups.slice(first, first + MOST_FILES)) {
      if (files > 0 && files + group.files > MOST_FILES) break
      files += group.files
      count += group.count
      last++
    }
    readSome(groups.slice(first, last), all.subarray(at, at + count))
    at += count
    first = last
  }
  return all
}

const readSome = (groups: readonly NumberFiles[], into: Float64Array): void => {
  reading ??= new Reading()
  reading.begin()
  let files = 0
  for (const group of groups) {
    group.addTo(reading, files)
    files += group.files
  }
  if (!reading.read(files, Buffer.from(into.buffer, into.byteOffset, into.byteLength))) return
  const entries = reading.entries.slice(0, files * ENTRY)
  let failure: LinuxError | undefined
  let [file, number] = [0, 0]
  for (const group of groups) {
    const found = group.settle(entries, file)
    failure ??= found.failure
    if (found.again) readSome([group], into.subarray(number, number + group.count))
    file += group.files
    number += group.count
  }
  // Only now: what was opened for the others is theirs.
  if (failure) throw failure
}
