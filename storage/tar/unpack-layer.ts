/** Entries of one layer → files in the directory that is the thread's root. Everything is created in it, nothing outside is named. */
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  ftruncateSync,
  lchownSync,
  openSync,
  statfsSync,
  symlinkSync,
  writeSync,
} from 'node:fs'
import { isErrno } from '#linux/errno.ts'
import { mknod } from '#linux/mknod.ts'
import { fsetXattr, lsetXattr } from '#linux/xattr.ts'
import { toBytes } from '../tree/bytes.ts'
import type { TarEntry } from './entry.ts'
import { setTimes } from './file-times.ts'
import { allocated, LayerTree } from './layer-tree.ts'
import { MAX_PATH_BYTES, type UnpackLimits } from './limits.ts'
import type { EntrySink } from './read-entries.ts'
import { refused, shown, tooMuch } from './refused.ts'
import { type PathInLayer, pathInLayer, ROOT } from './safe-path.ts'
import type { UnpackedLayer } from './unpack-messages.ts'
import { markerOf } from './whiteout.ts'
import { isAllowedXattr } from './xattr-policy.ts'

/** What an entry said about the layer's root directory. */
export interface RootAttributes {
  readonly mode: number
  readonly uid: number
  readonly gid: number
}

interface OpenFile {
  readonly fd: number
  readonly entry: TarEntry
  position: number
  bytes: number
}

const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
const SPACE_CHECK_BYTES = 64 * 2 ** 20
const SPACE_CHECK_ENTRIES = 10_000
const MAX_DROPPED_NAMES = 20
/** So much is worth a sync; in bytes, with what a file costs beside its data. */
const MUCH = 48 * 2 ** 20
const INODE_COST = 16 * 2 ** 10

export class LayerUnpacker implements EntrySink {
  readonly #limits: UnpackLimits
  readonly #tree: LayerTree
  #file: OpenFile | undefined
  #root: RootAttributes | undefined
  readonly #dropped = new Set<string>()
  #bytesToCheck = 0
  #entriesToCheck = 0
  readonly #wroteMuch: () => void
  #unsynced = 0

  /** @param wroteMuch called every now and then while much is written, for who wants it on the disk */
  constructor(limits: UnpackLimits, wroteMuch: () => void = () => {}) {
    this.#limits = limits
    this.#wroteMuch = wroteMuch
    this.#tree = new LayerTree(limits)
    this.#checkSpace()
  }

  begin(entry: TarEntry): void {
    if (this.#entriesToCheck-- <= 0) this.#checkSpace()
    const path = pathInLayer(entry.name)
    const marker = markerOf(path)
    this.#tree.atTime(entry.mtime)
    switch (marker.what) {
      case 'ignored':
        break
      case 'whiteout':
        this.#tree.whiteout(marker.target)
        break
      case 'opaque':
        this.#tree.opaque(marker.directory)
        break
      case 'none':
        this.#create(entry, path)
        break
    }
  }

  data(bytes: Buffer, position: number): void {
    const file = this.#file
    // Whiteouts and ignored entries may have content; nobody wants it.
    if (file === undefined) return
    this.#bytesToCheck -= bytes.length
    if (this.#bytesToCheck <= 0) this.#checkSpace()
    for (let done = 0; done < bytes.length; )
      done += writeSync(file.fd, bytes, done, bytes.length - done, position + done)
    file.position = position + bytes.length
    file.bytes += bytes.length
    this.#count(bytes.length)
  }

  end(): void {
    const file = this.#file
    if (file === undefined) return
    const { fd, entry } = file
    if (file.position < entry.size) ftruncateSync(fd, entry.size)
    if (entry.uid !== 0 || entry.gid !== 0) fchownSync(fd, entry.uid, entry.gid)
    if (entry.mode & 0o7000) fchmodSync(fd, entry.mode)
    this.#setXattrs(entry, (name, value) => fsetXattr(fd, name, value))
    setTimes(fd, entry.mtime)
    this.#file = undefined
    closeSync(fd)
    this.#tree.bytes += allocated(file.bytes)
    this.#count(INODE_COST)
  }

  /** As the archive would by an entry `.wh.…`. */
  hide(name: string): void {
    this.#tree.whiteout(pathInLayer(name))
  }

  finish(): UnpackedLayer {
    const implicit = this.#tree.finish()
    return {
      bytes: this.#tree.bytes,
      inodes: this.#tree.inodes,
      ...(this.#root !== undefined && { root: this.#root }),
      opaqueRoot: this.#tree.opaqueRoot,
      opaque: this.#tree.opaqueDirectories,
      implicit,
      lowerLinks: this.#tree.lowerLinks,
      droppedXattrs: [...this.#dropped],
    }
  }

  /** Lets go of what is open, after success or failure. */
  close(): void {
    if (this.#file !== undefined) closeSync(this.#file.fd)
    this.#file = undefined
  }

  #create(entry: TarEntry, path: PathInLayer): void {
    switch (entry.kind) {
      case 'directory':
        this.#createDirectory(entry, path)
        break
      case 'file':
        this.#createFile(entry, path)
        break
      case 'symlink':
        this.#createSymlink(entry, path)
        break
      case 'hardlink':
        this.#tree.link(path, pathInLayer(entry.linkName))
        break
      case 'char':
      case 'block':
      case 'fifo':
        this.#createNode(entry, entry.kind, path)
        break
    }
  }

  #createDirectory(entry: TarEntry, path: PathInLayer): void {
    // Everybody's root directory must not be set-id, whatever the image says.
    const mode = path === ROOT ? entry.mode & 0o1777 : entry.mode
    this.#tree.placeDirectory(path, mode, entry.mtime, (bytes) => {
      chownSync(bytes, entry.uid, entry.gid)
      this.#setXattrs(entry, (name, value) => lsetXattr(bytes, name, value))
      if (path !== ROOT) return
      this.#root = { mode, uid: entry.uid, gid: entry.gid }
      chmodSync(bytes, mode)
    })
  }

  #createFile(entry: TarEntry, path: PathInLayer): void {
    if (entry.size > this.#limits.archiveBytes)
      throw tooMuch(`Archive has a file of ${entry.size} bytes: ${shown(entry.name)}`)
    const fd = this.#tree.place(path, (bytes) => openSync(bytes, CREATE, entry.mode & 0o777))
    this.#file = { fd, entry, position: 0, bytes: 0 }
  }

  #createSymlink(entry: TarEntry, path: PathInLayer): void {
    const target = entry.linkName
    if (target === '' || target.length > MAX_PATH_BYTES || target.includes('\0'))
      throw refused(`Archive has a symbolic link ${shown(entry.name)} to ${shown(target)}`)
    this.#tree.place(path, (bytes) => {
      symlinkSync(toBytes(target), bytes)
      this.#describe(entry, bytes)
    })
  }

  #createNode(entry: TarEntry, type: 'char' | 'block' | 'fifo', path: PathInLayer): void {
    const { major, minor } = type === 'fifo' ? { major: 0, minor: 0 } : entry
    if (major < 0 || major > 0xfff || minor < 0 || minor > 0xfffff)
      throw refused(`Archive has a device with the number ${major}:${minor}: ${shown(entry.name)}`)
    // To overlayfs this is a whiteout; the archive has its own way to say that.
    if (type === 'char' && major === 0 && minor === 0)
      throw refused(`Archive has a device with the number 0:0: ${shown(entry.name)}`)
    this.#tree.place(path, (bytes) => {
      mknod(bytes, { type, mode: entry.mode & 0o777, major, minor })
      this.#describe(entry, bytes)
      if (entry.mode & 0o7000) chmodSync(bytes, entry.mode)
    })
  }

  /** Owner, attributes and times of what was just made and is not to be opened. */
  #describe(entry: TarEntry, bytes: Buffer): void {
    if (entry.uid !== 0 || entry.gid !== 0) lchownSync(bytes, entry.uid, entry.gid)
    this.#setXattrs(entry, (name, value) => lsetXattr(bytes, name, value))
    setTimes(bytes, entry.mtime)
  }

  #setXattrs(entry: TarEntry, set: (name: string, value: Buffer) => void): void {
    for (const [binaryName, value] of entry.xattrs) {
      const name = toBytes(binaryName).toString()
      if (isAllowedXattr(name)) this.#setXattr(entry, name, () => set(name, value))
      else this.#drop(name)
    }
  }

  /** User attributes are not possible on links and devices, nor on every file system; capabilities must not get lost. */
  #setXattr(entry: TarEntry, name: string, set: () => void): void {
    try {
      set()
    } catch (error) {
      if (name.startsWith('user.') && isErrno(error, 'EPERM', 'EOPNOTSUPP')) this.#drop(name)
      else throw refused(`Cannot set attribute ${shown(name)} of ${shown(entry.name)}: ${codeOf(error)}`)
    }
  }

  #drop(name: string): void {
    if (this.#dropped.size < MAX_DROPPED_NAMES) this.#dropped.add(name)
  }

  #count(bytes: number): void {
    this.#unsynced += bytes
    if (this.#unsynced < MUCH) return
    this.#unsynced = 0
    this.#wroteMuch()
  }

  #checkSpace(): void {
    this.#bytesToCheck = SPACE_CHECK_BYTES
    this.#entriesToCheck = SPACE_CHECK_ENTRIES
    const { bavail, bsize, blocks } = statfsSync('/')
    const reserved = Math.min(this.#limits.reservedBytes, (blocks * bsize) / 20)
    if (bavail * bsize < reserved) throw tooMuch('No space left for unpacking beyond what the runtime keeps free')
  }
}

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String(error.code) : 'unknown error'
