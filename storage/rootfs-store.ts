/** Root file systems of containers: a writable directory of their own over the layers of an image, joined by overlayfs. */
import { randomBytes } from 'node:crypto'
import { chmod, chown, mkdir, readdir, rename, rmdir, stat } from 'node:fs/promises'
import { join, relative } from 'node:path'
import * as z from 'zod'
import { isErrno } from '#linux/errno.ts'
import type { Linux } from '#linux/linux.ts'
import type { IdMap, IdRange as Ids } from '#linux/user-namespace.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { type DiffId, parseDiffId } from './digest.ts'
import { asDiskError } from './disk-errors.ts'
import type { FixUpStore } from './fix-up-store.ts'
import { KeyedLock } from './keyed-lock.ts'
import type { LayerInfo, LayerStore } from './layer-store.ts'
import { type Layout, recordIn, upperIn, workIn } from './layout.ts'
import { readRecord, writeRecord } from './record.ts'
import { Rollback } from './rollback.ts'
import { type MeasuredUsage, WritableUsage } from './snapshot/writable-usage.ts'
import type { WorkerPool } from './tar/worker-pool.ts'
import type { Trash } from './trash.ts'
import type { Usage } from './tree/measure-tree.ts'

const IdRange = z.object({ hostId: z.int(), size: z.int() })

const RootfsRecord = z.object({
  id: z.string(),
  /** Bottom first. */
  layers: z.array(z.string().transform(parseDiffId)),
  readonly: z.boolean(),
  options: z.array(z.string()).default([]),
  idMap: z.object({ uids: IdRange, gids: IdRange }).optional(),
  /** Where it is, or was last, mounted. */
  mountpoint: z.string(),
})

type RootfsRecord = z.infer<typeof RootfsRecord>

export interface CreateRootfs {
  readonly id: string
  /** Bottom first. */
  readonly layers: readonly DiffId[]
  /** Absolute; created when missing. */
  readonly mountpoint: string
  /** Mounted without a writable layer, for volumes from images. A container's read-only root is the runtime's to make. */
  readonly readonly?: boolean
  /** Flags of the mount: nosuid, nodev, noexec. */
  readonly options?: readonly string[]
  /** Ids of the layers' files are seen as these of the host: for a user namespace with this map. */
  readonly idMap?: IdMap | undefined
}

export interface RootfsInfo {
  readonly upper: string
  readonly work: string
  /** Topmost first. */
  readonly lower: string[]
  readonly layers: readonly DiffId[]
  readonly mountpoint: string
}

export interface RootfsStoreParts {
  readonly layout: Layout
  readonly linux: Linux
  readonly log: Log
  readonly layers: LayerStore
  readonly fixUps: FixUpStore
  readonly workers: WorkerPool
  readonly trash: Trash
}

const ID = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/

export class RootfsStore {
  readonly #parts: RootfsStoreParts
  /** undefined: there, but its record is damaged; it can only be removed. */
  readonly #records = new Map<string, RootfsRecord | undefined>()
  readonly #usage: WritableUsage
  readonly #locks = new KeyedLock()

  private constructor(parts: RootfsStoreParts) {
    this.#parts = parts
    const { log, workers } = parts
    this.#usage = new WritableUsage({
      log,
      measure: (id, signal) => workers.run('measure', { directory: upperIn(this.#directory(id)) }, signal),
    })
  }

  static async open(parts: RootfsStoreParts): Promise<RootfsStore> {
    const store = new RootfsStore(parts)
    // Of a process that was killed within that one tick.
    while (parts.linux.unmount(parts.layout.mapped, { detach: true }));
    for (const id of await readdir(parts.layout.rootfs)) {
      const found = await readRecord(recordIn(join(parts.layout.rootfs, id)), RootfsRecord)
      if (found.is !== 'whole') parts.log.error('A container rootfs has no usable record', { id, why: found.is })
      store.#records.set(id, found.is === 'whole' ? found.record : undefined)
      store.#usage.add(id)
      if (found.is === 'whole') store.#usage.setWritten(id, parts.linux.isMountpoint(found.record.mountpoint))
    }
    return store
  }

  list(): string[] {
    return [...this.#records.keys()]
  }

  /** Throws not-found for an unknown id or missing layer. */
  async info(id: string): Promise<RootfsInfo> {
    const record = this.#record(id)
    const directory = this.#directory(id)
    return {
      upper: upperIn(directory),
      work: workIn(directory),
      lower: await this.#lower(this.#layersOf(record)),
      layers: record.layers,
      mountpoint: record.mountpoint,
    }
  }

  /** Whether a rootfs is built on this layer. */
  uses(diffId: DiffId): boolean {
    for (const record of this.#records.values()) if (record?.layers.includes(diffId)) return true
    return false
  }

  /**
   * Makes the writable layer and mounts it. Throws already-exists for a known id, not-found for a missing layer;
   * leaves nothing behind on failure.
   */
  async create({ id, layers, mountpoint, readonly = false, options = [], idMap }: CreateRootfs): Promise<void> {
    if (!ID.test(id)) throw new RuntimeError('invalid-argument', `Rootfs id ${JSON.stringify(id)} is not valid`)
    using _ = await this.#locks.take(id)
    if (this.#records.has(id)) throw new RuntimeError('already-exists', `Rootfs "${id}" exists already`)
    const { log } = this.#parts
    const record: RootfsRecord = {
      id,
      layers: [...layers],
      readonly,
      options: [...options],
      mountpoint,
      ...(idMap && { idMap }),
    }
    // From here on the layers are in use, so that garbage collection leaves them alone.
    this.#records.set(id, record)
    await using rollback = new Rollback((what, error) => log.warn(`Cannot undo: ${what}`, { id, error }))
    rollback.defer('rootfs record', () => this.#records.delete(id))
    try {
      const stack = this.#layersOf(record)
      await this.#makeDirectory(record, rootOf(stack), rollback)
      await this.#mount(record, stack, rollback)
      this.#usage.add(id, await allocated(upperIn(this.#directory(id))))
    } catch (error) {
      throw asDiskError(error, `Cannot create rootfs "${id}"`)
    }
    rollback.keep()
  }

  /** Mounts again, after a reboot for instance. Does nothing when it is mounted there already. */
  async mount(id: string, mountpoint: string): Promise<void> {
    using _ = await this.#locks.take(id)
    const { linux, log } = this.#parts
    const record = { ...this.#record(id), mountpoint }
    await using rollback = new Rollback((what, error) => log.warn(`Cannot undo: ${what}`, { id, error }))
    try {
      if (!linux.isMountpoint(mountpoint)) await this.#mount(record, this.#layersOf(record), rollback)
      await writeRecord(recordIn(this.#directory(id)), record, { durable: false })
      this.#records.set(id, record)
      this.#usage.setWritten(id, true)
    } catch (error) {
      throw asDiskError(error, `Cannot mount rootfs "${id}"`)
    }
    rollback.keep()
  }

  /** Idempotent; an unknown id is unmounted already. */
  async unmount(id: string): Promise<void> {
    using _ = await this.#locks.take(id)
    this.#unmount(this.#records.get(id))
    this.#usage.setWritten(id, false)
  }

  /** Unmounts and removes. Idempotent. The files go in the background. */
  async remove(id: string): Promise<void> {
    using _ = await this.#locks.take(id)
    if (!this.#records.has(id)) return
    const record = this.#records.get(id)
    this.#unmount(record)
    await this.#parts.trash.take(this.#directory(id))
    if (record !== undefined) await rmdir(record.mountpoint).catch(() => {})
    this.#records.delete(id)
    this.#usage.remove(id)
  }

  /** What a container wrote, at once: as last measured, which may be a while ago. Undefined when unknown or not measured yet. */
  usageOf(id: string): MeasuredUsage | undefined {
    return this.#usage.of(id)
  }

  /** Measures what a container wrote: walks its writable layer, in a worker. Throws not-found. */
  async measure(id: string): Promise<MeasuredUsage> {
    this.#record(id)
    return this.#usage.measure(id)
  }

  /** The sum of what `usageOf` answers. */
  usage(): Usage {
    return this.#usage.total()
  }

  /** Ends measuring. */
  close(): Promise<void> {
    return this.#usage.close()
  }

  #record(id: string): RootfsRecord {
    const record = this.#records.get(id)
    if (record === undefined) throw new RuntimeError('not-found', `Rootfs "${id}" is not known`)
    return record
  }

  #layersOf({ layers }: RootfsRecord): LayerInfo[] {
    return layers.map((diffId) => {
      const layer = this.#parts.layers.get(diffId)
      if (layer === undefined) throw new RuntimeError('not-found', `Layer "${diffId}" is not in the store`)
      return layer
    })
  }

  async #makeDirectory({ id, ...rest }: RootfsRecord, root: RootOf, rollback: Rollback): Promise<void> {
    const { layout, trash } = this.#parts
    const made = join(layout.temp, `rootfs-${randomBytes(8).toString('hex')}`)
    await mkdir(made, { mode: 0o700 })
    let place = made
    rollback.defer('rootfs directory', () => trash.take(place))
    await mkdir(upperIn(made), { mode: 0o755 })
    await mkdir(workIn(made), { mode: 0o700 })
    // Overlayfs shows the attributes of the topmost directory, and for the root that is this one.
    // The layers below keep their files as they are; what is written has the owners that the host sees.
    const isMapped = rest.idMap !== undefined && !rest.readonly
    await chown(
      upperIn(made),
      hostId(root.uid, isMapped, rest.idMap?.uids),
      hostId(root.gid, isMapped, rest.idMap?.gids),
    )
    await chmod(upperIn(made), root.mode)
    await writeRecord(recordIn(made), { id, ...rest }, { durable: false })
    await rename(made, this.#directory(id))
    place = this.#directory(id)
  }

  async #mount(record: RootfsRecord, stack: readonly LayerInfo[], rollback: Rollback): Promise<void> {
    const { linux } = this.#parts
    const directory = this.#directory(record.id)
    const lower = await this.#lower(stack)
    const created = await mkdir(record.mountpoint, { recursive: true, mode: 0o700 })
    if (created !== undefined) rollback.defer('mountpoint', () => rmdir(record.mountpoint))
    const target = record.mountpoint
    const { options, idMap } = record
    // Without a writable layer its empty directory is the topmost read-only one, for the attributes of the root.
    const layers = record.readonly ? [upperIn(directory), ...lower] : lower
    const writable = record.readonly ? {} : { upper: upperIn(directory), work: workIn(directory) }
    const flags = record.readonly ? ['ro', ...options] : options
    this.#withMapped(idMap, (pathOf) => {
      linux.mountOverlay({ lower: layers.map(pathOf), ...writable, target, options: flags })
    })
    rollback.defer('mount', () => linux.unmount(target, { detach: true }))
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
    const { layout, linux } = this.#parts
    linux.bindTree({ source: layout.root, target: layout.mapped, readonly: true, idMap })
    try {
      use((path) => join(layout.mapped, relative(layout.root, path)))
    } finally {
      linux.unmount(layout.mapped, { detach: true })
    }
  }

  /** Topmost first, with the fix-up on top, cut below a layer that hides all others. */
  async #lower(stack: readonly LayerInfo[]): Promise<string[]> {
    const visible = stack.slice(
      Math.max(
        0,
        stack.findLastIndex(({ opaqueRoot }) => opaqueRoot),
      ),
    )
    if (visible.length === 0) return [this.#parts.layout.empty]
    const fixUp = await this.#parts.fixUps.treeFor(visible)
    const lower = visible.map(({ path }) => path).reverse()
    // The same layer twice is one layer: overlayfs refuses a directory that occurs again.
    return [...new Set(fixUp === undefined ? lower : [fixUp, ...lower])]
  }

  /** A busy mount is detached: it ends with its last user, and nobody can enter it any more. */
  #unmount(record: RootfsRecord | undefined): void {
    if (record === undefined) return
    const { linux, log } = this.#parts
    try {
      linux.unmount(record.mountpoint)
    } catch (error) {
      if (!isErrno(error, 'EBUSY')) throw error
      log.warn('Rootfs is busy, detaching it', { id: record.id, mountpoint: record.mountpoint })
      linux.unmount(record.mountpoint, { detach: true })
    }
  }

  #directory(id: string): string {
    return join(this.#parts.layout.rootfs, id)
  }
}

/** An id of an image as the host sees it in a writable layer; one that is not mapped belongs to nobody, so to root. */
const hostId = (id: number, isMapped: boolean, range: Ids | undefined): number =>
  isMapped && range ? range.hostId + (id < range.size ? id : 0) : id

/** Of an empty directory. */
const allocated = async (directory: string): Promise<Usage> => ({
  bytes: (await stat(directory)).blocks * 512,
  inodes: 1,
})

type RootOf = NonNullable<LayerInfo['root']>

/** The root directory's attributes as the topmost layer that describes it has them. */
const rootOf = (stack: readonly LayerInfo[]): RootOf =>
  stack.findLast(({ root }) => root !== undefined)?.root ?? { mode: 0o755, uid: 0, gid: 0 }
