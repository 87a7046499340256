/**
 * Copies of layers that several root file systems stand on, by name: layers with the owners of one user namespace, and whole
 * stacks for read-only volumes where there is no overlayfs. Derived, so they are made when first needed and go with their last user.
 */
import { createHash, randomBytes } from 'node:crypto'
import { chmod, chown, mkdir, readdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import type { IdMap } from '#linux/user-namespace.ts'
import { type Layout, recordIn, treeIn } from '../layout.ts'
import type { Quarantine } from '../quarantine.ts'
import { readRecord, writeRecord } from '../record.ts'
import { SingleFlight } from '../single-flight.ts'
import { syncDirectory } from '../sync-directory.ts'
import type { Syncs } from '../syncs.ts'
import type { WorkerPool } from '../tar/worker-pool.ts'
import type { Trash } from '../trash.ts'
import { addUsage, NO_USAGE, type Usage } from '../tree/measure-tree.ts'
import type { CopyRequest } from './copy-trees.ts'
import { type RootAttributes, rootOwner, type Tree } from './snapshot.ts'

const CopyRecord = z.object({ bytes: z.int().nonnegative(), inodes: z.int().nonnegative() })

export interface TreeCopy {
  /** Bottom first. */
  readonly trees: readonly Tree[]
  readonly form: CopyRequest['form']
  readonly idMap?: IdMap | undefined
  readonly label?: string | undefined
  /** Attributes of its root directory, when they are not those of the topmost tree. */
  readonly root?: RootAttributes
}

export interface TreeCopiesParts {
  readonly layout: Layout
  readonly syncs: Syncs
  readonly workers: WorkerPool
  readonly trash: Trash
  readonly quarantine: Quarantine
}

export class TreeCopies {
  readonly #parts: TreeCopiesParts
  readonly #known = new Map<string, Usage>()
  readonly #making = new SingleFlight<string>()

  private constructor(parts: TreeCopiesParts) {
    this.#parts = parts
  }

  /** Copies without a usable record are put aside: a container of before this start may stand on them. */
  static async open(parts: TreeCopiesParts): Promise<TreeCopies> {
    const copies = new TreeCopies(parts)
    for (const name of await readdir(parts.layout.copies)) {
      const directory = join(parts.layout.copies, name)
      const found = await readRecord(recordIn(directory), CopyRecord)
      if (found.is === 'whole') copies.#known.set(name, found.record)
      else await parts.quarantine.take(directory, found.is === 'missing' ? 'has no record' : `record ${found.why}`)
    }
    return copies
  }

  /** The name that this copy has, made or not. */
  static nameOf({ trees, form, idMap, label, root }: TreeCopy): string {
    const key = JSON.stringify([form, trees.map(({ id }) => id), idMap ?? null, label ?? null, root ?? null])
    return createHash('sha256').update(key).digest('hex').slice(0, 40)
  }

  /** The tree of a copy, which is made unless it is there. The caller has its name among those in use. */
  async treeOf(copy: TreeCopy): Promise<string> {
    const name = TreeCopies.nameOf(copy)
    if (!this.#known.has(name)) await this.#making.run(name, (signal) => this.#make(name, copy, signal))
    return treeIn(join(this.#parts.layout.copies, name))
  }

  /** The same of several. When one cannot be made, the others are waited for: what is made later, nobody would remove. */
  async treesOf(copies: readonly TreeCopy[]): Promise<string[]> {
    const settled = await Promise.allSettled(copies.map((copy) => this.treeOf(copy)))
    return settled.map((result) => {
      if (result.status === 'rejected') throw result.reason
      return result.value
    })
  }

  usage(): Usage {
    return [...this.#known.values()].reduce(addUsage, NO_USAGE)
  }

  /** Removes what nobody uses. */
  async keepOnly(used: (name: string) => boolean): Promise<void> {
    for (const name of this.#known.keys()) {
      if (used(name)) continue
      this.#known.delete(name)
      await this.#parts.trash.take(join(this.#parts.layout.copies, name))
    }
  }

  async #make(name: string, { trees, form, idMap, label, root }: TreeCopy, signal: AbortSignal): Promise<string> {
    const { layout, syncs, workers, trash } = this.#parts
    const made = join(layout.temp, `copy-${randomBytes(8).toString('hex')}`)
    const target = treeIn(made)
    const data = syncs.begin()
    try {
      await mkdir(target, { recursive: true, mode: 0o700 })
      const request = { trees: trees.map(({ path }) => path), target, form, idMap, label }
      const { bytes, inodes } = await workers.run('copy', request, signal)
      if (root !== undefined) await setRoot(target, root, idMap)
      await writeRecord(recordIn(made), { bytes, inodes }, { durable: false })
      await data.onDisk()
      await rename(made, join(layout.copies, name))
      await syncDirectory(layout.copies)
      this.#known.set(name, { bytes, inodes })
      return name
    } catch (error) {
      await trash.take(made)
      throw error
    }
  }
}

/** The root directory of a copied tree. */
export const setRoot = async (directory: string, root: RootAttributes, idMap: IdMap | undefined): Promise<void> => {
  const { uid, gid } = rootOwner({ root, idMap })
  await chown(directory, uid, gid)
  await chmod(directory, root.mode)
}
