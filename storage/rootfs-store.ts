/** Root file systems of containers: a writable tree of their own over the layers of an image, as a driver can show it. */
import { readdir, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Linux } from '#linux/linux.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { DiffId } from './digest.ts'
import { withSubject } from './disk-errors.ts'
import type { FixUpStore } from './fix-up-store.ts'
import { KeyedLock } from './keyed-lock.ts'
import type { LayerStore } from './layer-store.ts'
import { type Layout, recordIn, rootfsIn, upperIn } from './layout.ts'
import { makeRootfs, mountRootfs } from './make-rootfs.ts'
import { readRecord, writeRecord } from './record.ts'
import { Rollback } from './rollback.ts'
import { type CreateRootfs, isRootfsId, newRecord, RootfsRecord } from './rootfs-record.ts'
import type { Drivers } from './snapshot/open-drivers.ts'
import { isEntangled } from './snapshot/overlay-driver.ts'
import type { Projects } from './snapshot/projects.ts'
import { presentLayer, rootOf, type Snapshot, treesOf } from './snapshot/snapshot.ts'
import type { TreeCopies } from './snapshot/tree-copies.ts'
import { unmountRootfs } from './snapshot/unmount-rootfs.ts'
import { type MeasuredUsage, WritableUsage } from './snapshot/writable-usage.ts'
import { DEFAULT_LIMITS } from './tar/limits.ts'
import type { WorkerPool } from './tar/worker-pool.ts'
import type { Trash } from './trash.ts'
import type { Usage } from './tree/measure-tree.ts'

export interface RootfsStoreParts {
  readonly layout: Layout
  readonly linux: Linux
  readonly log: Log
  readonly layers: LayerStore
  readonly fixUps: FixUpStore
  readonly copies: TreeCopies
  readonly drivers: Drivers
  readonly meters: WorkerPool
  /** Undefined where the file system counts nothing for us. */
  readonly projects?: Projects | undefined
  readonly copiers: WorkerPool
  /** Of the containers' file system. */
  readonly trash: Trash
}

export class RootfsStore {
  readonly #parts: RootfsStoreParts
  /** undefined: there, but its record is damaged; it can only be removed. */
  readonly #records = new Map<string, RootfsRecord | undefined>()
  readonly #usage: WritableUsage
  readonly #locks = new KeyedLock()

  private constructor(parts: RootfsStoreParts) {
    this.#parts = parts
    const { log, meters, projects } = parts
    this.#usage = new WritableUsage({
      log,
      counted: (id) => {
        const project = this.#records.get(id)?.project
        return project === undefined ? undefined : projects?.usageOf(project)
      },
      measure: (id, signal) => meters.run('measure', { directory: upperIn(this.#directory(id)) }, signal),
    })
  }

  static async open(parts: RootfsStoreParts): Promise<RootfsStore> {
    const { layout, linux, log } = parts
    const store = new RootfsStore(parts)
    // Of a process that was killed within that one tick.
    while (linux.unmount(layout.mapped, { detach: true }));
    for (const id of await readdir(layout.rootfs)) {
      const found = await readRecord(recordIn(join(layout.rootfs, id)), RootfsRecord)
      if (found.is !== 'whole') log.error('A container rootfs has no usable record', { id, why: found.is })
      store.#records.set(id, found.is === 'whole' ? found.record : undefined)
      store.#usage.add(id)
      if (found.is === 'whole') store.#usage.setWritten(id, linux.isMountpoint(found.record.mountpoint))
    }
    await store.#collectCopies()
    return store
  }

  list(): string[] {
    return [...this.#records.keys()]
  }

  /** Whether a rootfs is built on this layer, or may be: one whose record is damaged does not tell. */
  uses(diffId: DiffId): boolean {
    for (const record of this.#records.values()) if (record === undefined || record.layers.includes(diffId)) return true
    return false
  }

  /**
   * Makes the writable layer and mounts it. Throws already-exists for a known id, not-found for a missing layer,
   * failed-precondition for what the driver cannot show; leaves nothing behind on failure.
   */
  async create(request: CreateRootfs): Promise<void> {
    const { id, image } = request
    if (!isRootfsId(id)) throw new RuntimeError('invalid-argument', `Rootfs id ${JSON.stringify(id)} is not valid`)
    using _ = await this.#locks.take(id)
    if (this.#records.has(id)) throw new RuntimeError('already-exists', `Rootfs "${id}" exists already`)
    const { drivers, linux } = this.#parts
    const record = newRecord(request, drivers.chosen, linux.bootId())
    // From here on the layers are in use, so that garbage collection leaves them alone.
    this.#records.set(id, record)
    await using rollback = this.#rollback(id)
    rollback.defer('rootfs record', () => this.#forget(id))
    try {
      const snapshot = await this.#snapshot(record)
      const whole = { ...record, copies: drivers.of(record.driver).copiesOf(snapshot) }
      this.#records.set(id, whole)
      const { usage, made } = await makeRootfs(this.#parts, whole, snapshot, rollback)
      this.#records.set(id, made)
      await mountRootfs(this.#parts, made, snapshot, rollback)
      this.#usage.add(id, usage)
    } catch (error) {
      throw withSubject(error, `Cannot create rootfs "${id}"${image === undefined ? '' : ` of image "${image}"`}`)
    }
    rollback.keep()
  }

  /**
   * Mounts again, after a reboot for instance. Does nothing when it is mounted there already. Throws failed-precondition for one
   * that was never synced (`volatile`) before the host went down.
   */
  async mount(id: string, mountpoint: string): Promise<void> {
    using _ = await this.#locks.take(id)
    const { linux } = this.#parts
    const record = { ...this.#record(id), mountpoint }
    await using rollback = this.#rollback(id)
    try {
      if (!linux.isMountpoint(mountpoint)) {
        await mountRootfs(this.#parts, record, await this.#snapshot(record), rollback)
      }
      const mounted = { ...record, bootId: linux.bootId() }
      await writeRecord(recordIn(this.#directory(id)), mounted, { durable: false })
      this.#records.set(id, mounted)
      this.#usage.setWritten(id, true)
    } catch (error) {
      throw withSubject(error, `Cannot mount rootfs "${id}"`)
    }
    rollback.keep()
  }

  /**
   * The writable directory of a rootfs, and those below it (topmost first), all in overlayfs form.
   * Throws not-found; failed-precondition for a driver, or options of it (metacopy, redirects), that keep changes not apart.
   */
  async changes(id: string): Promise<{ readonly upper: string; readonly lower: string[] }> {
    const record = this.#overlay(id)
    const { trees } = await this.#snapshot(record)
    return { upper: upperIn(this.#directory(id)), lower: trees.map(({ path }) => path).reverse() }
  }

  /**
   * Unpacks an archive into the writable layer of a rootfs that nobody uses yet, and hides `whiteouts` of the layers below. Not mounted
   * any more after a failure. Throws as `changes`, and what unpacking throws.
   */
  async fill(id: string, archive: string, whiteouts: readonly string[], signal?: AbortSignal): Promise<void> {
    using _ = await this.#locks.take(id)
    const record = this.#overlay(id)
    this.#unmount(record)
    const request = { blob: archive, directory: upperIn(this.#directory(id)), whiteouts, limits: DEFAULT_LIMITS }
    await this.#parts.copiers.run('unpack', request, signal)
    await using rollback = this.#rollback(id)
    await mountRootfs(this.#parts, record, await this.#snapshot(record), rollback)
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
    await this.#forget(id)
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

  #overlay(id: string): RootfsRecord {
    const record = this.#record(id)
    if (record.driver === 'overlay' && !record.readonly && !isEntangled(record.options)) return record
    throw new RuntimeError('failed-precondition', `Rootfs "${id}" keeps what was changed in it nowhere apart`)
  }

  async #forget(id: string): Promise<void> {
    const project = this.#records.get(id)?.project
    if (project !== undefined) this.#parts.projects?.release(project)
    this.#records.delete(id)
    this.#usage.remove(id)
    await this.#collectCopies()
  }

  async #collectCopies(): Promise<void> {
    const records = [...this.#records.values()]
    const used = new Set(records.flatMap((record) => record?.copies ?? []))
    const isAllTold = !records.includes(undefined)
    await this.#parts.copies.keepOnly((name) => !isAllTold || used.has(name))
  }

  async #snapshot({ layers, readonly, options, idMap }: RootfsRecord): Promise<Snapshot> {
    const stack = layers.map((diffId) => presentLayer(this.#parts.layers, diffId))
    return { trees: await treesOf(stack, this.#parts.fixUps), root: rootOf(stack), readonly, options, idMap }
  }

  #rollback(id: string): Rollback {
    return new Rollback((what, error) => this.#parts.log.warn(`Cannot undo: ${what}`, { id, error }))
  }

  #unmount(record: RootfsRecord | undefined): void {
    if (record !== undefined) unmountRootfs(this.#parts, record)
  }

  #directory(id: string): string {
    return rootfsIn(this.#parts.layout, id)
  }
}
