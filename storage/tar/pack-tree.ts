/**
 * The directory that is the thread's root → an archive of it. A writable layer of overlayfs may be packed: what it hides is told
 * and not packed. Links are packed, never followed. For confined threads.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readlinkSync, readSync, writeSync } from 'node:fs'
import { lgetXattr, llistXattr } from '#linux/xattr.ts'
import { toBytes } from '../tree/bytes.ts'
import { walkTree } from '../tree/walk-tree.ts'
import { END_OF_ARCHIVE, encodeEntry, paddingAfter } from './encode-entry.ts'
import type { EntryKind, TarEntry } from './entry.ts'
import { refused, shown, tooMuch } from './refused.ts'
import { OPAQUE_XATTR } from './whiteout.ts'
import { isAllowedXattr } from './xattr-policy.ts'

/** Paths hold one character per byte, without a leading slash. */
export interface PackedTree {
  /** Of the archive. */
  readonly bytes: number
  /** Names of the layers below that overlayfs shows no more. */
  readonly whiteouts: string[]
  /** Directories in which nothing of the layers below shows. */
  readonly opaque: string[]
}

export interface PackLimits {
  /** Of the whole archive. */
  readonly bytes: number
  readonly entries: number
}

const LONGEST_PATH = 4000
const CHUNK = 1024 * 1024
const OPEN = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
const S_IFMT = 0o170000
const KINDS = new Map<number, EntryKind>([
  [constants.S_IFREG, 'file'],
  [constants.S_IFDIR, 'directory'],
  [constants.S_IFLNK, 'symlink'],
  [constants.S_IFCHR, 'char'],
  [constants.S_IFBLK, 'block'],
  [constants.S_IFIFO, 'fifo'],
])

/** @throws RuntimeError resource-exhausted beyond the limits */
export const packTree = (output: number, limits: PackLimits, checkpoint: () => void): PackedTree => {
  const packer = new Packer(output, limits, checkpoint)
  const add = (path: string): void => packer.add(path)
  walkTree('.', { enter: add, leaf: add, checkpoint }, LONGEST_PATH)
  return packer.finish()
}

type Stat = ReturnType<typeof lstat>
const lstat = (path: string) => lstatSync(toBytes(path), { bigint: true })

class Packer {
  readonly #output: number
  readonly #limits: PackLimits
  readonly #checkpoint: () => void
  readonly #chunk = Buffer.allocUnsafeSlow(CHUNK)
  readonly #linked = new Map<bigint, string>()
  readonly #whiteouts: string[] = []
  readonly #opaque: string[] = []
  #bytes = 0
  #entries = 0

  constructor(output: number, limits: PackLimits, checkpoint: () => void) {
    this.#output = output
    this.#limits = limits
    this.#checkpoint = checkpoint
  }

  add(path: string): void {
    // Whoever walks on would be told names that start somewhere else.
    if (path.length >= LONGEST_PATH) throw tooMuch(`Tree is too deep to be packed: ${shown(path)}`)
    if (++this.#entries > this.#limits.entries) throw tooMuch(`Tree has more than ${this.#limits.entries} entries`)
    const stat = lstat(path)
    const kind = KINDS.get(Number(stat.mode) & S_IFMT)
    requireWhole(path, kind)
    if (kind === 'char' && stat.rdev === 0n) this.#whiteouts.push(path)
    else if (kind === 'file') this.#addFile(path, stat)
    else if (kind !== undefined) this.#write(encodeEntry(this.#entry(path, kind, stat)))
    if (kind === 'directory' && lgetXattr(toBytes(path), OPAQUE_XATTR)?.toString() === 'y') this.#opaque.push(path)
  }

  finish(): PackedTree {
    this.#write(END_OF_ARCHIVE)
    return { bytes: this.#bytes, whiteouts: this.#whiteouts, opaque: this.#opaque }
  }

  #addFile(path: string, stat: Stat): void {
    const first = stat.nlink > 1n ? this.#linked.get(stat.ino) : undefined
    if (first !== undefined) {
      this.#write(encodeEntry({ ...this.#entry(path, 'hardlink', stat), linkName: first }))
      return
    }
    if (stat.nlink > 1n) this.#linked.set(stat.ino, path)
    const fd = openSync(toBytes(path), OPEN)
    try {
      const size = fstatSync(fd).size
      if (size > this.#limits.bytes) throw tooMuch(`Tree has a file of ${size} bytes: ${shown(path)}`)
      this.#write(encodeEntry({ ...this.#entry(path, 'file', stat), size }))
      this.#copy(fd, size)
    } finally {
      closeSync(fd)
    }
  }

  /** Exactly `size` bytes, whatever becomes of the file meanwhile. */
  #copy(fd: number, size: number): void {
    for (let left = size; left > 0; ) {
      this.#checkpoint()
      const length = Math.min(left, CHUNK)
      const count = readSync(fd, this.#chunk, 0, length, null)
      if (count < length) this.#chunk.fill(0, count, length)
      this.#write(this.#chunk.subarray(0, length))
      left -= length
    }
    this.#write(Buffer.alloc(paddingAfter(size)))
  }

  #entry(path: string, kind: EntryKind, stat: Stat): TarEntry {
    const isNode = kind === 'char' || kind === 'block'
    return {
      kind,
      name: kind === 'directory' ? `${path}/` : path,
      linkName: kind === 'symlink' ? readlinkSync(toBytes(path), 'latin1') : '',
      mode: Number(stat.mode) & 0o7777,
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      size: 0,
      mtime: timeOf(stat.mtimeNs),
      major: isNode ? majorOf(stat.rdev) : 0,
      minor: isNode ? minorOf(stat.rdev) : 0,
      xattrs: kind === 'hardlink' ? new Map() : xattrsOf(path),
    }
  }

  #write(bytes: Buffer): void {
    this.#bytes += bytes.length
    if (this.#bytes > this.#limits.bytes) throw tooMuch(`Archive has more than ${this.#limits.bytes} bytes`)
    for (let done = 0; done < bytes.length; ) done += writeSync(this.#output, bytes, done, bytes.length - done)
  }
}

/** With these options of overlayfs a file may be its attributes only, and a directory in another place than its content. */
const requireWhole = (path: string, kind: EntryKind | undefined): void => {
  const name = kind === 'file' ? 'metacopy' : kind === 'directory' ? 'redirect' : undefined
  if (name !== undefined && lgetXattr(toBytes(path), `trusted.overlay.${name}`) !== undefined)
    throw refused(`Tree has ${shown(path)}, which overlayfs keeps only in part ("${name}")`)
}

const timeOf = (ns: bigint): TarEntry['mtime'] => {
  const nanoseconds = ((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n
  return { seconds: Number((ns - nanoseconds) / 1_000_000_000n), nanoseconds: Number(nanoseconds) }
}

const majorOf = (rdev: bigint): number => Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn))
const minorOf = (rdev: bigint): number => Number((rdev & 0xffn) | ((rdev >> 12n) & ~0xffn))

const xattrsOf = (path: string): Map<string, Buffer> =>
  new Map(
    llistXattr(toBytes(path))
      .filter(isAllowedXattr)
      .flatMap((name) => {
        const value = lgetXattr(toBytes(path), name)
        // Names of attributes are bytes as well.
        return value === undefined ? [] : [[Buffer.from(name).toString('latin1'), value] as const]
      }),
  )
