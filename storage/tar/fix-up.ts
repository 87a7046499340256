/**
 * Layers are unpacked without the layers below, so a directory that a layer only implies gets default attributes there,
 * and overlayfs shows those of the topmost layer. For a stack of layers this finds the directories that must look like
 * the next lower layer that describes them, and makes a tree of just these directories, to be put on top of the stack.
 * The files that the topmost layer has hard links to, and a lower layer has, are put there as well (link-below.ts).
 */
import { chmodSync, chownSync, lstatSync, mkdirSync, type Stats } from 'node:fs'
import { isErrno } from '#linux/errno.ts'
import { lgetXattr } from '#linux/xattr.ts'
import { toBytes } from '../tree/bytes.ts'
import { roomKeeper } from '../tree/keep-room.ts'
import { copyXattrs } from './copy-xattrs.ts'
import { setTimes, timeOf } from './file-times.ts'
import { linkBelow } from './link-below.ts'
import { tooMuch } from './refused.ts'
import { join, type PathInLayer, parentOf, ROOT } from './safe-path.ts'
import type { LowerLink } from './unpack-messages.ts'
import { OPAQUE_XATTR } from './whiteout.ts'

/** Paths relative to the directory that is the thread's root. */
export interface FixUpRequest {
  /** Bottom first; layers that an opaque root hides are left out by the caller. */
  readonly layers: readonly StackedTree[]
  /** Of the topmost layer. */
  readonly lowerLinks: readonly LowerLink[]
  /** The most that may be copied for them. */
  readonly maxBytes: number
  /** The most files that may be looked at. */
  readonly maxLooks: number
  /** An empty directory. */
  readonly target: string
}

export interface StackedTree {
  readonly tree: string
  readonly implicit: readonly string[]
  /** Made by this very function, for the layers up to it. */
  readonly isFixUp: boolean
}

/** What was made. */
export interface FixedUp {
  readonly directories: number
  readonly files: number
  readonly bytes: number
  readonly inodes: number
  /** Of these bytes, those of files. */
  readonly copied: number
}

/** What a layer says about a path. */
type View =
  | { readonly is: 'silent' }
  /** Whatever the layers below have there does not show. */
  | { readonly is: 'hidden' }
  | { readonly is: 'directory'; readonly implicit: boolean; readonly place: string; readonly stat: Stats }

const SILENT: View = { is: 'silent' }
const HIDDEN: View = { is: 'hidden' }

const DIRECTORY_BYTES = 4096

/** Throws failed-precondition for links to nothing, resource-exhausted for what takes too long or too much room. */
export const fixUp = (request: FixUpRequest, checkpoint: () => void): FixedUp => {
  const { layers, lowerLinks, maxBytes, maxLooks, target } = request
  const looking = bounded(maxLooks, checkpoint)
  const stack = layers
    .map(({ tree, implicit }) => new LayerView(tree, new Set(implicit as PathInLayer[]), looking))
    .reverse()
  const builder = new FixUpBuilder(stack, target)
  for (const path of new Set(stack.flatMap((layer) => [...layer.implicit]))) builder.add(path)
  const keepRoom = roomKeeper(target)
  const files = linkBelow(lowerLinks, {
    trees: stack.slice(1).map(({ tree }) => tree),
    copied: new Set(layers.flatMap(({ tree, isFixUp }) => (isFixUp ? [tree] : []))),
    maxBytes,
    placeOf: (path) => builder.placeOfLeaf(path),
    showsBelow: (path) => stack[0]?.look(path).is === 'silent',
    looking,
    onBytes: (bytes) => {
      checkpoint()
      keepRoom(bytes)
    },
  })
  const directories = builder.finish()
  const made = Math.max(1, directories)
  return {
    directories,
    files: files.inodes + lowerLinks.length,
    bytes: made * DIRECTORY_BYTES + files.bytes,
    inodes: made + files.inodes,
    copied: files.bytes,
  }
}

/** A stack of many layers, each with many directories of many parts, would keep a thread busy for days. */
const bounded = (maxLooks: number, checkpoint: () => void): (() => void) => {
  let looks = 0
  return () => {
    looks += 1
    if (looks % 1000 === 0) checkpoint()
    if (looks > maxLooks)
      throw tooMuch('Layers leave so many directories to the layers below that nobody can wait for it')
  }
}

class LayerView {
  readonly tree: string
  readonly implicit: ReadonlySet<PathInLayer>
  readonly #looking: () => void

  constructor(tree: string, implicit: ReadonlySet<PathInLayer>, looking: () => void) {
    this.tree = tree
    this.implicit = implicit
    this.#looking = looking
  }

  /** Goes down component by component, so that no link of the layer is ever followed. */
  look(path: PathInLayer): View {
    const components = path === ROOT ? [] : path.split('/')
    let place = this.tree
    let at = ROOT
    let blocked = false
    for (const component of components) {
      this.#looking()
      blocked = blocked || lgetXattr(toBytes(place), OPAQUE_XATTR) !== undefined
      place = `${place}/${component}`
      at = join(at, component)
      const stat = lstatSync(toBytes(place), { throwIfNoEntry: false })
      if (stat === undefined) return blocked ? HIDDEN : SILENT
      if (!stat.isDirectory()) return HIDDEN
    }
    return this.#directory(at, place, blocked)
  }

  /** An implicit directory below an opaque one is new: there is nothing underneath to take attributes from. */
  #directory(path: PathInLayer, place: string, blocked: boolean): View {
    const implicit = this.implicit.has(path) && !blocked
    return { is: 'directory', implicit, place, stat: lstatSync(toBytes(place)) }
  }
}

class FixUpBuilder {
  readonly #stack: readonly LayerView[]
  readonly #target: string
  readonly #made = new Map<PathInLayer, Stats>()

  /** `stack` has the topmost layer first. */
  constructor(stack: readonly LayerView[], target: string) {
    this.#stack = stack
    this.#target = target
  }

  /** Makes `path` when the stack shows it with default attributes although a lower layer describes it. */
  add(path: PathInLayer): void {
    if (this.#made.has(path)) return
    const { top, source } = this.#find(path)
    if (top !== undefined && top !== source) this.#make(path)
  }

  /** Where a file goes, with its directories made. */
  placeOfLeaf(path: PathInLayer): Buffer {
    this.#make(parentOf(path))
    return this.#placeOf(path)
  }

  /** Returns how many directories there are. */
  finish(): number {
    // Times last: making a directory changes its parent's.
    for (const [path, stat] of this.#made) setTimes(this.#placeOf(path), timeOf(stat))
    return this.#made.size
  }

  /** What shows at a path, and what it should look like. */
  #find(path: PathInLayer): { top?: View & { is: 'directory' }; source?: View & { is: 'directory' } } {
    let top: (View & { is: 'directory' }) | undefined
    for (const layer of this.#stack) {
      const view = this.#look(layer, path)
      if (view.is === 'silent') continue
      if (view.is === 'hidden') break
      top ??= view
      if (!view.implicit) return { top, source: view }
    }
    return top === undefined ? {} : { top, source: top }
  }

  /** Names that are too long to be looked at keep their defaults. */
  #look(layer: LayerView, path: PathInLayer): View {
    try {
      return layer.look(path)
    } catch (error) {
      if (isErrno(error, 'ENAMETOOLONG')) return HIDDEN
      throw error
    }
  }

  #make(path: PathInLayer): void {
    if (this.#made.has(path)) return
    if (path !== ROOT) this.#make(parentOf(path))
    const { source } = this.#find(path)
    if (source === undefined) return
    const place = this.#placeOf(path)
    if (path !== ROOT) mkdirSync(place)
    chownSync(place, source.stat.uid, source.stat.gid)
    chmodSync(place, source.stat.mode & 0o7777)
    copyXattrs(toBytes(source.place), place)
    this.#made.set(path, source.stat)
  }

  #placeOf(path: PathInLayer): Buffer {
    return toBytes(path === ROOT ? this.#target : `${this.#target}/${path}`)
  }
}
