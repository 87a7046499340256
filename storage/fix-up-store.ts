/**
 * Fix-ups by chain id: trees that go on top of a stack whose layers only imply some of their directories, or whose topmost layer has hard
 * links to files of those below (see tar/fix-up.ts). Derived from layers, so they are made when first needed and may be lost.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rename } from 'node:fs/promises'
import { join, relative } from 'node:path'
import * as z from 'zod'
import { type ChainId, chainId } from './chain-id.ts'
import type { Manifests } from './check/manifests.ts'
import type { DiffId } from './digest.ts'
import { parseDiffId } from './digest.ts'
import type { LayerInfo } from './layer-store.ts'
import { digestText, type Layout, nameOf, recordIn, treeIn } from './layout.ts'
import type { Quarantine } from './quarantine.ts'
import { readRecord, writeRecord } from './record.ts'
import { SingleFlight } from './single-flight.ts'
import type { Tree } from './snapshot/snapshot.ts'
import { syncDirectory } from './sync-directory.ts'
import type { Syncs } from './syncs.ts'
import type { FixedUp } from './tar/fix-up.ts'
import { MAX_LOOKS } from './tar/limits.ts'
import type { WorkerPool } from './tar/worker-pool.ts'
import type { Trash } from './trash.ts'
import { addUsage, NO_USAGE, type Usage } from './tree/measure-tree.ts'

export const FixUpRecord = z.object({
  /** The stack, bottom first. */
  layers: z.array(z.string().transform(parseDiffId)),
  /** How many directories it has; with none there is nothing to put on the stack. */
  directories: z.int().nonnegative(),
  /** How many files; those of before had none. */
  files: z.int().nonnegative().default(0),
  bytes: z.int().nonnegative().default(0),
  inodes: z.int().nonnegative().default(0),
  /** Bytes of files that are copies of a layer's. */
  copied: z.int().nonnegative().default(0),
})

type FixUpRecord = z.infer<typeof FixUpRecord>

/** A layer, or a fix-up above it. */
interface Stacked extends Tree {
  readonly implicit: readonly string[]
  readonly fixUp?: FixUpRecord
}

export interface FixUpStoreParts {
  readonly layout: Layout
  readonly syncs: Syncs
  readonly workers: WorkerPool
  readonly manifests: Manifests
  readonly trash: Trash
  readonly quarantine: Quarantine
}

export class FixUpStore {
  readonly #parts: FixUpStoreParts
  readonly #records = new Map<string, FixUpRecord>()
  readonly #making = new SingleFlight<FixUpRecord>()

  private constructor(parts: FixUpStoreParts) {
    this.#parts = parts
  }

  static async open(parts: FixUpStoreParts): Promise<FixUpStore> {
    const store = new FixUpStore(parts)
    for (const name of await readdir(parts.layout.fixUps)) {
      const directory = join(parts.layout.fixUps, name)
      const found = await readRecord(recordIn(directory), FixUpRecord)
      if (found.is !== 'whole') {
        // A container of before this start may stand on it.
        await parts.quarantine.take(directory, found.is === 'missing' ? 'has no record' : `record ${found.why}`)
        continue
      }
      store.#records.set(digestText(name), found.record)
      if (found.record.files > 0) parts.manifests.expect(directory)
    }
    return store
  }

  /** Of all there are. */
  usage(): Usage {
    return [...this.#records.values()].reduce(addUsage, NO_USAGE)
  }

  /**
   * The trees of these layers, bottom first, with what has to be above some of them. Throws failed-precondition for hard links to what no lower
   * layer has, resource-exhausted for a full disk or what takes too much.
   */
  async treesOn(layers: readonly LayerInfo[]): Promise<Tree[]> {
    const stack: Stacked[] = []
    for (const [index, layer] of layers.entries()) {
      stack.push({ id: layer.diffId, path: layer.path, implicit: layer.implicit })
      const below = layers.slice(0, index + 1)
      const isLast = index === layers.length - 1
      // A bottom layer has nothing below it to take attributes from.
      if (layer.lowerLinks.length === 0 && !(isLast && below.slice(1).some(({ implicit }) => implicit.length > 0)))
        continue
      const fixUp = await this.#fixUpOf(below, stack)
      if (fixUp !== undefined) stack.push(fixUp)
    }
    return stack.map(({ id, path }) => ({ id, path }))
  }

  /** Removes the fix-ups of stacks in which a layer is missing. */
  async collectGarbage(has: (diffId: DiffId) => boolean): Promise<void> {
    for (const [chain, { layers }] of this.#records) {
      if (layers.every(has)) continue
      this.#records.delete(chain)
      await this.#parts.trash.take(this.#directory(chain as ChainId))
    }
  }

  /** Has it made anew when it is next needed; who stands on it keeps it. */
  async discard(chain: string, why: string): Promise<void> {
    this.#records.delete(chain)
    await this.#parts.quarantine.take(this.#directory(chain as ChainId), why)
  }

  async #fixUpOf(layers: readonly LayerInfo[], stack: readonly Stacked[]): Promise<Stacked | undefined> {
    const chain = chainId(layers.map(({ diffId }) => diffId))
    if (chain === undefined) return undefined
    const record = this.#records.get(chain) ?? (await this.#making.run(chain, () => this.#make(chain, layers, stack)))
    if (record.directories === 0) return undefined
    const path = treeIn(this.#directory(chain))
    return { id: `fix-up:${path}`, path, implicit: [], fixUp: record }
  }

  async #make(chain: ChainId, layers: readonly LayerInfo[], stack: readonly Stacked[]): Promise<FixUpRecord> {
    const { layout, manifests, syncs, trash } = this.#parts
    const made = join(layout.temp, `fix-up-${randomBytes(8).toString('hex')}`)
    const data = syncs.begin()
    try {
      await mkdir(treeIn(made), { recursive: true, mode: 0o700 })
      const record = { layers: layers.map(({ diffId }) => diffId), ...(await this.#fill(treeIn(made), layers, stack)) }
      await writeRecord(recordIn(made), record, { durable: false })
      await data.onDisk()
      await trash.take(this.#directory(chain))
      await rename(made, this.#directory(chain))
      await syncDirectory(layout.fixUps)
      this.#records.set(chain, record)
      if (record.files > 0) manifests.make(this.#directory(chain))
      return record
    } catch (error) {
      await trash.take(made)
      throw error
    }
  }

  #fill(tree: string, layers: readonly LayerInfo[], stack: readonly Stacked[]): Promise<FixedUp> {
    const { layout, workers } = this.#parts
    // With layers of additional stores there is no smaller directory that holds all.
    const isOutside = layers.some(({ store }) => store !== undefined)
    const directory = isOutside ? '/' : layout.root
    const inRoot = (path: string): string => relative(directory, path)
    const all = layers.reduce((sum, { bytes }) => sum + bytes, 0)
    const copied = stack.reduce((sum, { fixUp }) => sum + (fixUp?.copied ?? 0), 0)
    return workers.run('fix-up', {
      directory,
      recursive: isOutside,
      layers: stack.map(({ path, implicit, fixUp }) => ({
        tree: inRoot(path),
        implicit,
        isFixUp: fixUp !== undefined,
      })),
      lowerLinks: layers.at(-1)?.lowerLinks ?? [],
      maxBytes: Math.max(0, all - copied),
      maxLooks: MAX_LOOKS,
      target: inRoot(tree),
    })
  }

  #directory(chain: ChainId): string {
    return join(this.#parts.layout.fixUps, nameOf(chain))
  }
}
