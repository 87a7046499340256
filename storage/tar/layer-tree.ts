/**
 * The directory a layer is unpacked into, and what is known about it: which directories exist, which of them the archive
 * never described, which names are whiteouts. Symbolic links are resolved by resolve-in-layer.ts, never by the kernel.
 */
import { chmodSync, chownSync, linkSync, lstatSync, mkdirSync, rmdirSync, unlinkSync } from 'node:fs'
import { isErrno } from '#linux/errno.ts'
import { mknod } from '#linux/mknod.ts'
import { toBytes } from '../tree/bytes.ts'
import { walkTree } from '../tree/walk-tree.ts'
import { setTimes } from './file-times.ts'
import type { UnpackLimits } from './limits.ts'
import type { Timestamp } from './pax.ts'
import { refused, shown, tooMuch } from './refused.ts'
import { type KnownOfLayer, resolveInLayer } from './resolve-in-layer.ts'
import { baseOf, join, type PathInLayer, parentOf, ROOT } from './safe-path.ts'
import type { LowerLink } from './unpack-messages.ts'

interface Directory {
  /** Described by an entry, or replacing what lower layers have: its attributes are its own. */
  own: boolean
  mode: number
  mtime: Timestamp
}

const BLOCK_BYTES = 4096

/** What a file of `bytes` data takes on disk, near enough. */
export const allocated = (bytes: number): number => Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES

export class LayerTree {
  readonly #limits: UnpackLimits
  readonly #directories = new Map<PathInLayer, Directory>()
  readonly #whiteouts = new Set<PathInLayer>()
  readonly #opaque = new Set<PathInLayer>()
  /** Hard links to what is not in this layer, by place. A whiteout stands there until it is known what the layers below have. */
  readonly #lowerLinks = new Map<PathInLayer, PathInLayer>()
  #implicit = 0
  #keptNameBytes = 0
  /** Mode and times of directories that come into being without an entry. */
  #now: Timestamp = { seconds: 0, nanoseconds: 0 }
  bytes = BLOCK_BYTES
  inodes = 1
  /** The layer hides everything below it. */
  opaqueRoot = false

  readonly #leaving: KnownOfLayer = {
    isDirectory: (place) => this.#directories.has(place),
    isWhiteout: (place) => this.#whiteouts.has(place),
  }
  readonly #making: KnownOfLayer = {
    ...this.#leaving,
    makeDirectory: (place) => this.#makeDirectory(place, { own: false, mode: 0o755, mtime: this.#now }),
  }

  /** The thread's root must be an empty directory. */
  constructor(limits: UnpackLimits) {
    this.#limits = limits
    // The directory may have inherited group and set-group-id from the one it was made in.
    chownSync('/', 0, 0)
    chmodSync('/', 0o755)
    this.#directories.set(ROOT, { own: true, mode: 0o755, mtime: this.#now })
  }

  /** Tells the time of the entry that is being unpacked. */
  atTime(mtime: Timestamp): void {
    this.#now = mtime
  }

  /**
   * Makes something that is no directory at `path`. `make` gets the path with its directory resolved and must fail with
   * EEXIST when something is there: that is then removed, the last entry of a name counts.
   */
  place<T>(path: PathInLayer, make: (bytes: Buffer) => T): T {
    if (path === ROOT) throw refused('Archive has a root that is no directory')
    const place = this.#placeOf(path)
    const bytes = absolute(place)
    this.inodes += 1
    try {
      return make(bytes)
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error
      this.#clear(place)
      return make(bytes)
    }
  }

  /** Makes or redescribes the directory at `path`; `describe` sets owner and attributes. */
  placeDirectory(path: PathInLayer, mode: number, mtime: Timestamp, describe: (bytes: Buffer) => void): void {
    const place = path === ROOT ? ROOT : this.#placeOf(path)
    const known = this.#directories.get(place)
    if (known === undefined) this.#makeDirectory(place, { own: true, mode, mtime })
    else {
      if (!known.own) this.#implicit -= 1
      this.#directories.set(place, { own: true, mode, mtime })
      chmodSync(absolute(place), mode & 0o777)
    }
    describe(absolute(place))
  }

  /** Gives the file at `target` a second name. What is not in this layer is left for later: a lower layer's file must never be shared. */
  link(path: PathInLayer, target: PathInLayer): void {
    const from = target === ROOT ? ROOT : join(this.#resolve(parentOf(target), false), baseOf(target))
    const below = this.#lowerLinks.get(from)
    if (below !== undefined) {
      this.#linkBelow(path, below)
      return
    }
    if (this.#directories.has(from)) throw refused(`Archive has a hard link to the directory ${shown(target)}`)
    if (this.#whiteouts.has(from)) throw refused(`Archive has a hard link to the whiteout ${shown(target)}`)
    if (path !== ROOT && this.#placeOf(path) === from) return
    try {
      this.place(path, (bytes) => linkSync(absolute(from), bytes))
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error
      this.#linkBelow(path, from)
    }
    this.inodes -= 1
  }

  /** The place of the link is a whiteout, so that nothing else of the layers below shows there either. */
  #linkBelow(path: PathInLayer, target: PathInLayer): void {
    for (let at = parentOf(target); at !== ROOT; at = parentOf(at))
      if (this.#opaque.has(at)) throw refused(`Archive has a hard link to ${shown(target)}, which it hides`)
    if (this.#lowerLinks.size >= this.#limits.lowerLinks)
      throw tooMuch(`Archive has more than ${this.#limits.lowerLinks} hard links to what is not in it`)
    const place = this.#placeOf(path)
    this.#keepNames(place.length + target.length)
    this.place(place, (bytes) => mknod(bytes, { type: 'char', mode: 0 }))
    this.#lowerLinks.set(place, target)
  }

  get lowerLinks(): LowerLink[] {
    if (this.opaqueRoot && this.#lowerLinks.size > 0)
      throw refused('Archive hides all layers below, and has hard links to what they have')
    return [...this.#lowerLinks].map(([path, target]) => ({ path, target }))
  }

  /** Hides a name of the lower layers. What this very layer has under that name stays (image-spec, "Whiteouts"). */
  whiteout(path: PathInLayer): void {
    const place = this.#placeOf(path)
    const directory = this.#directories.get(place)
    if (directory !== undefined) {
      this.#hideLower(place, directory)
      return
    }
    try {
      mknod(absolute(place), { type: 'char', mode: 0 })
    } catch (error) {
      if (isErrno(error, 'EEXIST')) return
      throw error
    }
    this.#whiteouts.add(place)
    this.inodes += 1
  }

  /** Hides the lower layers' content of a directory, which itself goes on with their attributes unless described. */
  opaque(path: PathInLayer): void {
    // Links in the layer may lead back to its root.
    const place = path === ROOT ? ROOT : this.#resolve(path, true)
    if (place === ROOT) this.opaqueRoot = true
    else this.#setOpaque(place)
  }

  /** Directories to be marked as hiding what lower layers have in them, which takes a power that this process does not have. */
  get opaqueDirectories(): PathInLayer[] {
    return [...this.#opaque]
  }

  /** Sets what could only be set once nothing is created any more. Returns the directories that need lower layers' attributes. */
  finish(): PathInLayer[] {
    const implicit: PathInLayer[] = []
    for (const [place, { own, mode, mtime }] of this.#directories) {
      const bytes = absolute(place)
      // Only now: what is created in a set-group-id directory would have inherited it.
      if (mode & 0o7000) chmodSync(bytes, mode)
      setTimes(bytes, mtime)
      if (!own) implicit.push(place)
    }
    return implicit
  }

  #placeOf(path: PathInLayer): PathInLayer {
    const parent = parentOf(path)
    return this.#directories.has(parent) ? path : join(this.#resolve(parent, true), baseOf(path))
  }

  /** Missing directories are made; unless `create` the rest is left as it is, for the layers below. */
  #resolve(path: PathInLayer, create: boolean): PathInLayer {
    return resolveInLayer(path, create ? this.#making : this.#leaving)
  }

  #makeDirectory(place: PathInLayer, directory: Directory): void {
    if (this.#directories.size >= this.#limits.directories)
      throw tooMuch(`Archive has more than ${this.#limits.directories} directories`)
    const bytes = absolute(place)
    let replaces = false
    try {
      mkdirSync(bytes, directory.mode & 0o777)
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error
      this.#clear(place)
      replaces = true
      mkdirSync(bytes, directory.mode & 0o777)
    }
    this.#directories.set(place, directory)
    this.inodes += 1
    this.bytes += BLOCK_BYTES
    if (!directory.own) this.#countImplicit(place)
    // What was here, a whiteout or a file, had hidden the lower layers' directory of that name.
    if (replaces) this.#hideLower(place, directory)
  }

  #countImplicit(place: PathInLayer): void {
    this.#keepNames(place.length)
    this.#implicit += 1
    if (this.#implicit > this.#limits.implicitDirectories)
      throw tooMuch(`Archive has more than ${this.#limits.implicitDirectories} directories without an entry`)
  }

  #keepNames(bytes: number): void {
    this.#keptNameBytes += bytes
    if (this.#keptNameBytes > this.#limits.keptNameBytes)
      throw tooMuch(
        `Archive has directories without an entry, opaque ones and links with names of more than ${this.#limits.keptNameBytes} bytes`,
      )
  }

  /** A directory that replaces one of the lower layers: nothing of that one shows, neither content nor attributes. */
  #hideLower(place: PathInLayer, directory: Directory): void {
    this.#setOpaque(place)
    if (!directory.own) this.#implicit -= 1
    directory.own = true
  }

  #setOpaque(place: PathInLayer): void {
    this.#opaque.add(place)
    this.#keepNames(place.length)
    if (this.#opaque.size > this.#limits.opaqueDirectories)
      throw tooMuch(`Archive has more than ${this.#limits.opaqueDirectories} opaque directories`)
  }

  /** Removes what this layer has at `place`. */
  #clear(place: PathInLayer): void {
    if (this.#directories.has(place)) {
      this.#clearDirectory(place)
      return
    }
    this.#unlink(absolute(place))
    this.#forgetLeaf(place)
  }

  /** Paths here are the ones entries were placed at, so none is too long and each is a key without its slash. */
  #clearDirectory(place: PathInLayer): void {
    walkTree(
      `/${place}`,
      {
        leaf: (path) => {
          this.#unlink(toBytes(path))
          this.#forgetLeaf(path.slice(1) as PathInLayer)
        },
        leave: (path) => this.#forget(path.slice(1) as PathInLayer),
      },
      Number.POSITIVE_INFINITY,
    )
  }

  #forgetLeaf(place: PathInLayer): void {
    this.#whiteouts.delete(place)
    this.#lowerLinks.delete(place)
  }

  #forget(place: PathInLayer): void {
    rmdirSync(absolute(place))
    this.#opaque.delete(place)
    if (this.#directories.get(place)?.own === false) this.#implicit -= 1
    this.#directories.delete(place)
    this.inodes -= 1
    this.bytes -= BLOCK_BYTES
  }

  #unlink(bytes: Buffer): void {
    const stat = lstatSync(bytes)
    unlinkSync(bytes)
    if (stat.nlink > 1) return
    this.inodes -= 1
    if (stat.isFile()) this.bytes = Math.max(BLOCK_BYTES, this.bytes - allocated(stat.size))
  }
}

const absolute = (place: PathInLayer): Buffer => toBytes(`/${place}`)
