/**
 * A copy of a program in memory that nobody can change any more. An OCI runtime started from one need not make itself safe
 * from the container (CVE-2019-5736) by a mount or a copy of its own at each start; runc offers the same as `memfd-bind`.
 */
import { closeSync, fstatSync, openSync, readSync, type Stats, statSync, writeSync } from 'node:fs'
import { sys } from './sys.ts'

const MFD_CLOEXEC = 1
const MFD_ALLOW_SEALING = 2
const F_ADD_SEALS = 1033
/** Against sealing, shrinking, growing and writing: what runc looks for. */
const SEALS = 0xf
const CHUNK = 1024 * 1024
const MAX_BYTES = 64 * 1024 * 1024
const ELF = Buffer.from([0x7f, 0x45, 0x4c, 0x46])

/** Tells one content of a file from the next. */
const versionOf = ({ dev, ino, size, mtimeMs, ctimeMs }: Stats): string => [dev, ino, size, mtimeMs, ctimeMs].join('-')

export class SealedCopy {
  readonly #source: string
  #version: string | undefined
  #fd: number | undefined

  constructor(source: string) {
    this.#source = source
  }

  /**
   * Where the copy can be executed, as long as this process lives: a path that leads to its descriptor. A program that was
   * replaced since is copied again; one that is no binary, or cannot be copied, is its own path.
   */
  path(): string {
    try {
      const version = versionOf(statSync(this.#source))
      if (version !== this.#version) this.#renew(version)
    } catch {
      // Whoever executes it learns why it cannot be.
      this.close()
    }
    return this.#fd === undefined ? this.#source : `/proc/${process.pid}/fd/${this.#fd}`
  }

  #renew(version: string): void {
    this.close()
    this.#version = version
    this.#fd = copyOf(this.#source)
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = undefined
    this.#version = undefined
  }
}

const copyOf = (source: string): number | undefined => {
  const from = openSync(source, 'r')
  try {
    const { size } = fstatSync(from)
    const head = Buffer.alloc(ELF.length)
    readSync(from, head, 0, head.length, 0)
    if (size > MAX_BYTES || !head.equals(ELF)) return undefined
    return filled(from)
  } finally {
    closeSync(from)
  }
}

const filled = (from: number): number => {
  const fd = sys('memfd_create', 'cricket-runtime', MFD_CLOEXEC | MFD_ALLOW_SEALING)
  try {
    const chunk = Buffer.allocUnsafe(CHUNK)
    for (let at = 0; ; ) {
      const count = readSync(from, chunk, 0, chunk.length, at)
      if (count === 0) break
      for (let done = 0; done < count; ) done += writeSync(fd, chunk, done, count - done)
      at += count
    }
    sys('fcntl', fd, F_ADD_SEALS, SEALS)
    return fd
  } catch (error) {
    closeSync(fd)
    throw error
  }
}
