/** Root file systems by overlayfs: the layers stay where they are, what a container writes goes to a directory of its own. */
import { mkdir, stat } from 'node:fs/promises'
import { join, relative } from 'node:path'
import type { Linux } from '#linux/linux.ts'
import { MAX_LOWER_LAYERS } from '#linux/overlay.ts'
import type { IdMap } from '#linux/user-namespace.ts'
import { RuntimeError } from '#proto/errors.ts'
import { type Layout, upperIn, workIn } from '../layout.ts'
import type { Usage } from '../tree/measure-tree.ts'
import type { Driver, Place } from './driver.ts'
import { makePrivate } from './make-private.ts'
import type { Snapshot, Tree } from './snapshot.ts'
import { setRoot, TreeCopies } from './tree-copies.ts'

/** Off unless asked for; docs/storage.md has what each of them costs. */
export interface OverlayOptions {
  /** Changing only a file's attributes does not copy its data. */
  readonly metacopy: boolean
  /** Renaming a directory of the image does not copy it. */
  readonly redirectDir: boolean
  /** What containers write need not survive a crash of the host. */
  readonly volatile: boolean
}

export interface OverlayParts {
  readonly layout: Layout
  readonly linux: Linux
  readonly copies: TreeCopies
  /** Roots of additional stores, in the order of their places in `layout.outside`. */
  readonly additional: readonly string[]
  readonly options: OverlayOptions
  /** How a user namespace gets its owners: from the kernel, by copies of the layers, or not at all. */
  readonly idMaps: 'kernel' | 'copies' | 'none'
}

export class OverlayDriver implements Driver {
  readonly name = 'overlay'
  readonly #parts: OverlayParts

  constructor(parts: OverlayParts) {
    this.#parts = parts
  }

  get mapsIds(): boolean {
    return this.#parts.idMaps !== 'none'
  }

  optionsOf({ readonly }: Pick<Snapshot, 'readonly'>): string[] {
    return readonly ? ['ro'] : writableOptions(this.#parts.options)
  }

  copiesOf(snapshot: Snapshot): string[] {
    return this.#copies(snapshot).map((copy) => TreeCopies.nameOf(copy))
  }

  async make(directory: string, snapshot: Snapshot): Promise<Usage> {
    const layers = snapshot.trees.length + (snapshot.readonly ? 1 : 0)
    if (layers > MAX_LOWER_LAYERS)
      throw new RuntimeError(
        'failed-precondition',
        `it has ${layers} layers, and the kernel's overlayfs takes ${MAX_LOWER_LAYERS}`,
      )
    if (snapshot.idMap !== undefined && !this.mapsIds)
      throw new RuntimeError(
        'failed-precondition',
        'the kernel cannot map the owners of its files for a user namespace',
      )
    await mkdir(upperIn(directory), { mode: 0o755 })
    await mkdir(workIn(directory), { mode: 0o700 })
    // Overlayfs shows the attributes of the topmost directory, and for the root that is this one.
    await setRoot(upperIn(directory), snapshot.root, snapshot.idMap)
    return { bytes: (await stat(upperIn(directory))).blocks * 512, inodes: 1 }
  }

  async mount({ directory, mountpoint }: Place, snapshot: Snapshot): Promise<void> {
    const { layout, linux } = this.#parts
    const upper = upperIn(directory)
    const copies = await this.#parts.copies.treesOf(this.#copies(snapshot))
    const trees = copies.length > 0 ? copies : snapshot.trees.map(({ path }) => path)
    const below = trees.length === 0 ? [layout.empty] : [...trees].reverse()
    // Without a writable layer its empty directory is the topmost read-only one, for the attributes of the root.
    const top = snapshot.readonly ? [upper] : []
    const writable = snapshot.readonly ? {} : { upper, work: workIn(directory) }
    const idMap = copies.length > 0 ? undefined : snapshot.idMap
    this.#withMapped(idMap, (pathOf) => {
      linux.mountOverlay({
        lower: [...top, ...below.map(pathOf)],
        ...writable,
        target: mountpoint,
        options: snapshot.options,
      })
    })
    makePrivate(linux, mountpoint)
  }

  /** One for each layer, so that images of one pod share them. */
  #copies({ idMap, trees }: Snapshot): { trees: Tree[]; form: 'overlay'; idMap: IdMap }[] {
    if (idMap === undefined || this.#parts.idMaps !== 'copies') return []
    return trees.map((tree) => ({ trees: [tree], form: 'overlay', idMap }))
  }

  /**
   * Overlayfs itself cannot map ids, but its layers may lie on a mount that does (Linux 5.19): this whole store, read-only,
   * until the overlay holds copies of its own. All in one tick, as there is one place for it.
   */
  #withMapped(idMap: IdMap | undefined, use: (pathOf: (path: string) => string) => void): void {
    if (!idMap) {
      use((path) => path)
      return
    }
    const { additional, layout, linux } = this.#parts
    linux.bindTree({ source: layout.root, target: layout.mapped, readonly: true, idMap })
    const mapped = new Map<string, string>()
    const storeOf = (path: string): string | undefined => additional.find((root) => path.startsWith(`${root}/`))
    const placeOf = (store: string): string => {
      const place = mapped.get(store) ?? join(layout.mapped, 'outside', `${additional.indexOf(store)}`)
      if (!mapped.has(store)) linux.bindTree({ source: store, target: place, readonly: true, idMap })
      mapped.set(store, place)
      return place
    }
    try {
      use((path) => {
        const store = storeOf(path)
        return store === undefined
          ? join(layout.mapped, relative(layout.root, path))
          : join(placeOf(store), relative(store, path))
      })
    } finally {
      linux.unmount(layout.mapped, { detach: true })
    }
  }
}

/** All of them said, whatever the kernel was built with. */
export const writableOptions = ({ metacopy, redirectDir, volatile }: OverlayOptions): string[] => [
  'index=off',
  // The kernel wants the one for the other.
  `redirect_dir=${redirectDir || metacopy ? 'on' : 'off'}`,
  `metacopy=${metacopy ? 'on' : 'off'}`,
  ...(volatile ? ['volatile'] : []),
]

/** Whether the writable layer of such a mount is complete only together with the layers below. */
export const isEntangled = (options: readonly string[]): boolean =>
  options.includes('metacopy=on') || options.includes('redirect_dir=on')
