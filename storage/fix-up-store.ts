/**
 * Fix-up layers by chain id: small trees of directories that go on top of a stack whose layers only imply some of their
 * directories (see tar/fix-up.ts). Derived from layers, so they are made when first needed and may be lost.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rename } from 'node:fs/promises'
import { join, relative } from 'node:path'
import * as z from 'zod'
import type { ChainId } from './chain-id.ts'
import { chainId } from './chain-id.ts'
import type { DiffId } from './digest.ts'
import { parseDiffId } from './digest.ts'
import type { LayerInfo } from './layer-store.ts'
import { digestText, type Layout, nameOf, recordIn, treeIn } from './layout.ts'
import { readRecord, writeRecord } from './record.ts'
import { SingleFlight } from './single-flight.ts'
import { syncDirectory } from './sync-directory.ts'
import type { Syncs } from './syncs.ts'
import type { WorkerPool } from './tar/worker-pool.ts'
import type { Trash } from './trash.ts'

export const FixUpRecord = z.object({
  /** The stack, bottom first. */
  layers: z.array(z.string().transform(parseDiffId)),
  /** How many directories it has; with none there is nothing to put on the stack. */
  directories: z.int().nonnegative(),
})

type FixUpRecord = z.infer<typeof FixUpRecord>

export interface FixUpStoreParts {
  readonly layout: Layout
  readonly syncs: Syncs
  readonly workers: WorkerPool
  readonly trash: Trash
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
      if (found.is === 'whole') store.#records.set(digestText(name), found.record)
      else await parts.trash.take(directory)
    }
    return store
  }

  /** The tree to put on top of these layers (bottom first), or undefined when they need none. */
  async treeFor(layers: readonly LayerInfo[]): Promise<string | undefined> {
    const chain = chainId(layers.map(({ diffId }) => diffId))
    // A bottom layer has nothing below it to take attributes from.
    if (chain === undefined || layers.slice(1).every(({ implicit }) => implicit.length === 0)) return undefined
    const record = this.#records.get(chain) ?? (await this.#making.run(chain, () => this.#make(chain, layers)))
    return record.directories === 0 ? undefined : treeIn(this.#directory(chain))
  }

  /** Removes the fix-ups of stacks in which a layer is missing. */
  async collectGarbage(has: (diffId: DiffId) => boolean): Promise<void> {
    for (const [chain, { layers }] of this.#records) {
      if (!layers.every(has)) await this.discard(chain)
    }
  }

  /** Has it made anew when it is next needed; who stands on it keeps it. */
  async discard(chain: string): Promise<void> {
    this.#records.delete(chain)
    await this.#parts.trash.take(this.#directory(chain as ChainId))
  }

  async #make(chain: ChainId, layers: readonly LayerInfo[]): Promise<FixUpRecord> {
    const { layout, syncs, workers, trash } = this.#parts
    const made = join(layout.temp, `fix-up-${randomBytes(8).toString('hex')}`)
    const data = syncs.begin()
    try {
      await mkdir(treeIn(made), { recursive: true, mode: 0o700 })
      // With layers of additional stores there is no smaller directory that holds all.
      const isOutside = layers.some(({ store }) => store !== undefined)
      const directory = isOutside ? '/' : layout.root
      const inRoot = (path: string): string => relative(directory, path)
      const { directories } = await workers.run('fix-up', {
        directory,
        recursive: isOutside,
        layers: layers.map(({ path, implicit }) => ({ tree: inRoot(path), implicit })),
        target: inRoot(treeIn(made)),
      })
      const record = { layers: layers.map(({ diffId }) => diffId), directories }
      await writeRecord(recordIn(made), record, { durable: false })
      await data.onDisk()
      await trash.take(this.#directory(chain))
      await rename(made, this.#directory(chain))
      await syncDirectory(layout.fixUps)
      this.#records.set(chain, record)
      return record
    } catch (error) {
      await trash.take(made)
      throw error
    }
  }

  #directory(chain: ChainId): string {
    return join(this.#parts.layout.fixUps, nameOf(chain))
  }
}
