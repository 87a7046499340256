/**
 * Layers by diff id, each unpacked once into a directory of its own, without looking at other layers, so that many can
 * be unpacked at the same time. A layer appears only when it is complete, verified and on disk.
 */
import { randomBytes } from 'node:crypto'
import { chmod, mkdir, readdir, rename, stat } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { errnoOf } from '#linux/errno.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { AdditionalLayers } from './additional-layers.ts'
import type { BlobStore } from './blob-store.ts'
import type { Manifests } from './check/manifests.ts'
import type { Compression } from './compression.ts'
import { type DiffId, type Digest, isDigest } from './digest.ts'
import { asDiskError } from './disk-errors.ts'
import { type FileTree, treeIdOf, writeTree } from './file-tree.ts'
import { Growth } from './growth.ts'
import { LayerRecord } from './layer-record.ts'
import { digestText, type Layout, nameOf, recordIn, treeIn } from './layout.ts'
import type { Quarantine } from './quarantine.ts'
import { readRecord, writeRecord } from './record.ts'
import { Rollback } from './rollback.ts'
import { SingleFlight } from './single-flight.ts'
import { syncDirectory } from './sync-directory.ts'
import type { Syncs } from './syncs.ts'
import { DEFAULT_LIMITS, type UnpackLimits } from './tar/limits.ts'
import { markOpaque } from './tar/mark-opaque.ts'
import type { UnpackedLayer } from './tar/unpack-messages.ts'
import { TrickledIn, type UnpackPool } from './tar/unpack-pool.ts'
import type { Trash } from './trash.ts'
import { addUsage, NO_USAGE, type Usage } from './tree/measure-tree.ts'

export type LayerInfo = LayerRecord & {
  /** The layer's directory tree, in overlayfs form. */
  readonly path: string
  /** Root of the additional store that it is in; of our own layers there is none. */
  readonly store?: string
}

export interface UnpackInput {
  readonly diffId: DiffId
  readonly blob: Digest
  /** Of the partial file of a blob that is still arriving; a whole one of the store when not given. */
  readonly growth?: Growth
  /** As declared; a blob that is compressed otherwise is refused. */
  readonly compression?: Compression
  /** Ends this caller's waiting; the unpacking goes on. */
  readonly signal?: AbortSignal
}

export interface LayerStoreParts {
  readonly layout: Layout
  readonly syncs: Syncs
  readonly log: Log
  readonly blobs: BlobStore
  readonly unpackers: UnpackPool
  readonly manifests: Manifests
  readonly additional: AdditionalLayers
  readonly trash: Trash
  readonly quarantine: Quarantine
  readonly limits?: Partial<UnpackLimits>
}

export class LayerStore {
  readonly #parts: LayerStoreParts
  readonly #layers = new Map<DiffId, LayerInfo>()
  readonly #unpacking = new SingleFlight<LayerInfo>()
  #usage: Usage = NO_USAGE

  private constructor(parts: LayerStoreParts) {
    this.#parts = parts
  }

  /** Reads all records; damaged layers go to quarantine and are simply not there. */
  static async open(parts: LayerStoreParts): Promise<LayerStore> {
    const store = new LayerStore(parts)
    for (const name of await readdir(parts.layout.layers)) await store.#load(name)
    return store
  }

  /** Here or in an additional store. */
  has(diffId: DiffId): boolean {
    return this.get(diffId) !== undefined
  }

  get(diffId: DiffId): LayerInfo | undefined {
    return this.#layers.get(diffId) ?? this.#parts.additional.get(diffId)
  }

  /** Our own. */
  list(): LayerInfo[] {
    return [...this.#layers.values()]
  }

  usage(): Usage {
    return this.#usage
  }

  /**
   * Unpacks a blob, also one that is still arriving; joins an unpacking of the same layer that is under way. Throws WrongBlob for bytes
   * that are not the blob's, failed-precondition for a broken, lying or hostile archive, resource-exhausted for one that is too big or a full
   * disk, and what the growth failed with; nothing is left then.
   */
  async unpack(input: UnpackInput): Promise<LayerInfo> {
    const { diffId, signal } = input
    const there = this.get(diffId)
    return there ?? this.#unpacking.run(diffId, (own) => this.#unpack(input, own), signal)
  }

  /** Removes a layer that no rootfs uses: the caller knows. Idempotent. After a power cut it may be there again, whole. */
  async remove(diffId: DiffId): Promise<void> {
    const layer = this.#layers.get(diffId)
    if (layer !== undefined) {
      this.#layers.delete(diffId)
      this.#account(layer, -1)
    }
    await this.#parts.trash.take(this.#directory(diffId))
  }

  /** Takes a layer that turned out damaged out of use, so that it is fetched again. Who stands on it keeps it. */
  async quarantine(diffId: DiffId, why: string): Promise<void> {
    const layer = this.#layers.get(diffId)
    if (layer !== undefined) {
      this.#layers.delete(diffId)
      this.#account(layer, -1)
    }
    await this.#parts.quarantine.take(this.#directory(diffId), why)
  }

  /** Forgets layers whose directory somebody took away. */
  async forgetMissing(): Promise<void> {
    for (const { diffId, path } of this.list())
      if (!(await stat(path).catch(() => undefined))) await this.quarantine(diffId, 'has no tree')
  }

  /** Stops unpacking. */
  async close(): Promise<void> {
    await this.#unpacking.abortAll(new RuntimeError('unavailable', 'Storage is closing'))
  }

  /**
   * Makes a layer of whole blobs of the store as files; joins another making of the same one. The caller keeps the blobs from
   * being removed. Throws not-found for a missing blob, resource-exhausted for a full disk; nothing is left then.
   */
  async assemble(tree: FileTree): Promise<LayerInfo> {
    const diffId = treeIdOf(tree)
    const fill = async (directory: string): Promise<UnpackedLayer> => {
      await chmod(directory, 0o755)
      const usage = await writeTree(directory, tree, this.#parts.blobs)
      return { ...usage, opaqueRoot: false, opaque: [], implicit: [], lowerLinks: [], droppedXattrs: [] }
    }
    const known = new Map(tree.map(({ path, blob }) => [path, blob]))
    return this.get(diffId) ?? this.#unpacking.run(diffId, () => this.#make(diffId, fill, known))
  }

  async #unpack(input: UnpackInput, signal: AbortSignal): Promise<LayerInfo> {
    const make = () => this.#make(input.diffId, (directory) => this.#runUnpack(input, directory, signal))
    try {
      return await make()
    } catch (error) {
      if (!(error instanceof TrickledIn)) throw error
      await input.growth?.whole()
      return make()
    }
  }

  async #make(
    diffId: DiffId,
    fill: (directory: string) => Promise<UnpackedLayer>,
    known?: ReadonlyMap<string, Digest>,
  ): Promise<LayerInfo> {
    const { layout, syncs, log, trash } = this.#parts
    using _ = this.#parts.manifests.hold()
    const made = join(layout.temp, `layer-${randomBytes(8).toString('hex')}`)
    await using rollback = new Rollback((what, error) => log.warn(`Cannot undo: ${what}`, { diffId, error }))
    const data = syncs.begin()
    try {
      await mkdir(made, { mode: 0o700 })
      rollback.defer('temporary layer', () => trash.take(made))
      await mkdir(treeIn(made), { mode: 0o755 })
      const unpacked = await fill(treeIn(made))
      const record = recordOf(diffId, unpacked)
      await writeRecord(recordIn(made), record, { durable: false })
      // The record and every file of the layer: only what is on disk may become visible.
      await data.onDisk()
      await rename(made, this.#directory(diffId))
      rollback.keep()
      await syncDirectory(layout.layers)
      if (unpacked.droppedXattrs.length > 0)
        log.warn('Left out extended attributes of a layer', { diffId, names: unpacked.droppedXattrs })
      // What follows nobody waits for: the layer is whole without it.
      this.#parts.manifests.make(this.#directory(diffId), known)
      return this.#publish(record)
    } catch (error) {
      throw errnoOf(error) !== undefined ? asDiskError(error, `Cannot make layer "${diffId}"`) : error
    }
  }

  async #runUnpack(input: UnpackInput, tree: string, signal: AbortSignal): Promise<UnpackedLayer> {
    const { layout, unpackers, limits } = this.#parts
    const { diffId, blob, compression, growth = this.#whole(blob) } = input
    const task = {
      place: input.growth === undefined ? ('whole' as const) : ('partial' as const),
      name: nameOf(blob),
      digest: blob,
      size: growth.size,
      growth,
      compression,
      diffId,
      directory: relative(layout.temp, tree),
      limits: { ...DEFAULT_LIMITS, ...limits },
    }
    const unpacked = await unpackers.run(task, signal)
    await markOpaque(tree, unpacked.opaque)
    return unpacked
  }

  #whole(blob: Digest): Growth {
    const size = this.#parts.blobs.size(blob)
    if (size === undefined) throw new RuntimeError('not-found', `Blob "${blob}" is not in the store`)
    return new Growth(size, size)
  }

  #publish(record: LayerRecord): LayerInfo {
    const layer: LayerInfo = { ...record, path: treeIn(this.#directory(record.diffId)) }
    this.#layers.set(record.diffId, layer)
    this.#account(layer, 1)
    return layer
  }

  #account({ bytes, inodes }: Usage, sign: 1 | -1): void {
    this.#usage = addUsage(this.#usage, { bytes: sign * bytes, inodes: sign * inodes })
  }

  async #load(name: string): Promise<void> {
    const { layout, quarantine } = this.#parts
    const directory = join(layout.layers, name)
    const diffId = digestText(name)
    if (!isDigest(diffId)) return quarantine.take(directory, 'is not named after a digest')
    const found = await readRecord(recordIn(directory), LayerRecord)
    if (found.is !== 'whole')
      return quarantine.take(directory, found.is === 'missing' ? 'has no record' : `record ${found.why}`)
    const tree = await stat(treeIn(directory)).catch(() => undefined)
    if (found.record.diffId !== diffId || !tree?.isDirectory())
      return quarantine.take(directory, 'record and directory do not belong together')
    this.#publish(found.record)
    this.#parts.manifests.expect(directory)
  }

  #directory(diffId: DiffId): string {
    return join(this.#parts.layout.layers, nameOf(diffId))
  }
}

const recordOf = (
  diffId: DiffId,
  { bytes, inodes, root, opaqueRoot, implicit, lowerLinks }: UnpackedLayer,
): LayerRecord => ({
  content: lowerLinks.length === 0 ? 'local' : 'with-links-below',
  diffId,
  bytes,
  inodes,
  ...(root !== undefined && { root }),
  opaqueRoot,
  implicit,
  lowerLinks,
})
