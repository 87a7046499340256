/**
 * Layers are unpacked without the layers below, so a directory that a layer only implies gets default attributes there,
 * and overlayfs shows those of the topmost layer. For a stack of layers this finds the directories that must look like
 * the next lower layer that describes them, and makes a tree of just these directories, to be put on top of the stack.
 */
import { chmodSync, chownSync, lstatSync, mkdirSync, type Stats } from 'node:fs'
import { isErrno } from '#linux/errno.ts'
import { lgetXattr, llistXattr, lsetXattr } from '#linux/xattr.ts'
import { toBytes } from '../tree/bytes.ts'
import { setTimes, timeOf } from './file-times.ts'
import { join, type PathInLayer, parentOf, ROOT } from './safe-path.ts'
import { OPAQUE_XATTR } from './whiteout.ts'
import { isAllowedXattr } from './xattr-policy.ts'

/** Paths relative to the directory that is the thread's root. */
export interface FixUpRequest {
  /** Bottom first; layers that an opaque root hides are left out by the caller. */
  readonly layers: readonly { readonly tree: string; readonly implicit: readonly string[] }[]
  /** An empty directory. */
  readonly target: string
}

/** What a layer says about a path. */
type View =
  | { readonly is: 'silent' }
  /** Whatever the layers below have there does not show. */
  | { readonly is: 'hidden' }
  | { readonly is: 'directory'; readonly implicit: boolean; readonly place: string; readonly stat: Stats }

const SILENT: View = { is: 'silent' }
const HIDDEN: View = { is: 'hidden' }

/** Returns how many directories were made. */
export const fixUp = ({ layers, target }: FixUpRequest): { directories: number } => {
  const stack = layers.map(({ tree, implicit }) => new LayerView(tree, new Set(implicit as PathInLayer[]))).reverse()
  const builder = new FixUpBuilder(stack, target)
  for (const path of new Set(stack.flatMap((layer) => [...layer.implicit]))) builder.add(path)
  return { directories: builder.finish() }
}

class LayerView {
  readonly #tree: string
  readonly implicit: ReadonlySet<PathInLayer>

  constructor(tree: string, implicit: ReadonlySet<PathInLayer>) {
    this.#tree = tree
    this.implicit = implicit
  }

  /** Goes down component by component, so that no link of the layer is ever followed. */
  look(path: PathInLayer): View {
    const components = path === ROOT ? [] : path.split('/')
    let place = this.#tree
    let at = ROOT
    let blocked = false
    for (const component of components) {
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

const copyXattrs = (from: Buffer, to: Buffer): void => {
  for (const name of llistXattr(from)) {
    const value = isAllowedXattr(name) ? lgetXattr(from, name) : undefined
    if (value !== undefined) lsetXattr(to, name, value)
  }
}
