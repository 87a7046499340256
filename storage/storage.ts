/** The storage of one daemon: blobs, layers and rootfs below one root directory, which no second process may open. */
import { statSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { removeUnfinishedWrites } from '#linux/atomic-file.ts'
import type { Linux } from '#linux/linux.ts'
import type { ProjectLimits } from '#linux/project-quota.ts'
import type { Log } from '#proto/log.ts'
import { AdditionalLayers } from './additional-layers.ts'
import { BlobStore } from './blob-store.ts'
import { checkStorage, type Stack } from './check/check-storage.ts'
import type { Checked, Finding } from './check/finding.ts'
import { Manifests } from './check/manifests.ts'
import { repairStorage } from './check/repair-storage.ts'
import { type Collected, collectGarbage } from './collect-garbage.ts'
import type { DiffId } from './digest.ts'
import { FixUpStore } from './fix-up-store.ts'
import { LayerStore } from './layer-store.ts'
import { checkVersion, createDirectories, layoutOf } from './layout.ts'
import { releaseAll, takeLocks } from './locks.ts'
import { Quarantine } from './quarantine.ts'
import { RootfsStore } from './rootfs-store.ts'
import { DEFAULT_SNAPSHOT_OPTIONS, openDrivers, type SnapshotOptions } from './snapshot/open-drivers.ts'
import { Projects } from './snapshot/projects.ts'
import { presentLayer, treesOf } from './snapshot/snapshot.ts'
import { TreeCopies } from './snapshot/tree-copies.ts'
import { sweepMounts } from './sweep-mounts.ts'
import { makeDirectory } from './sync-directory.ts'
import { syncRoot } from './sync-root.ts'
import { Syncs } from './syncs.ts'
import { startPool } from './tar/confine.ts'
import type { ExtractLimits } from './tar/extract-files.ts'
import type { UnpackLimits } from './tar/limits.ts'
import type { PackedTree, PackLimits } from './tar/pack-tree.ts'
import { UnpackPool } from './tar/unpack-pool.ts'
import { WorkerPool } from './tar/worker-pool.ts'
import { Trash } from './trash.ts'
import { addUsage, type Usage } from './tree/measure-tree.ts'

export interface StorageOptions {
  /** Absolute; created when missing. All of it must be one file system. */
  readonly root: string
  /** Where containers write, when that is another directory, maybe of another file system; created when missing. */
  readonly containers?: string
  readonly snapshots?: SnapshotOptions
  /** The most that a container may write; needs a file system with project quotas. */
  readonly writable?: ProjectLimits
  /** Roots of other storages whose layers are used as if they were here; only read. */
  readonly additional?: readonly string[]
  readonly linux: Linux
  readonly log: Log
  readonly limits?: Partial<UnpackLimits>
}

/** What we put on a file system, and a directory of it. */
export interface FilesystemUsage extends Usage {
  readonly mountpoint: string
}

export interface Storage {
  readonly root: string
  /** Names the file system where containers write, as `usage` does. */
  readonly containersMountpoint: string
  readonly blobs: BlobStore
  readonly layers: LayerStore
  readonly rootfs: RootfsStore
  /** Whether a rootfs can be made for a user namespace. */
  readonly mapsIds: boolean
  /** Writes an archive of a directory to an open file, in a worker. @throws RuntimeError resource-exhausted beyond the limits */
  pack(directory: string, output: number, limits: PackLimits, signal?: AbortSignal): Promise<PackedTree>
  /**
   * Unpacks an archive that is read from an open file and may hold regular files and directories only, into an empty directory, in a
   * worker. @throws RuntimeError failed-precondition for what it must not hold, resource-exhausted beyond the limits
   */
  extract(archive: number, directory: string, limits: ExtractLimits, signal?: AbortSignal): Promise<{ bytes: number }>
  /** Accounted as things come and go; for containers what was last measured. No walk. */
  usage(): { images: FilesystemUsage; containers: FilesystemUsage }
  /**
   * Makes what these layers (bottom first) need besides themselves to be shown. A rootfs would do so as well; whoever asks before learns in time of
   * layers that do not go together. Throws not-found, failed-precondition, resource-exhausted.
   */
  complete(stack: readonly DiffId[]): Promise<void>
  /** Removes all layers that are neither kept nor below a rootfs. */
  collectGarbage(input: { keep: ReadonlySet<DiffId> }): Promise<Collected>
  /** Looks at everything on the disk; changes nothing. `stacks`: what images need. */
  check(stacks: readonly Stack[], signal?: AbortSignal): Promise<Checked>
  /** Does what the remedies of findings say; those that are not about the storage are passed over. */
  repair(findings: readonly Finding[]): Promise<void>
  /** Looks whether additional stores came, changed or went. Returns whether any did. */
  refreshAdditional(): Promise<boolean>
  /** What went since the start because it was damaged, or was nobody's. */
  counters(): StorageCounters
  /** Resolves once everything removed so far is gone from the disk. */
  trashEmptied(): Promise<void>
  /** Ends running work, brings what was written to the disk, and gives the root to others. Mounts stay. */
  close(): Promise<void>
}

export interface StorageCounters {
  readonly quarantined: number
  /** Half-made and half-removed trees of an earlier process. */
  readonly swept: number
  readonly sweptMounts: number
}

/** Unpacking keeps a core busy and inflating another; more at once only costs memory. */
const UNPACKERS = { size: 2, idleMs: 10_000 }
const SWEEPERS = { size: 1, idleMs: 5_000 }
/** Whole layers are read: nothing that anybody waits for. */
const READERS = { size: 1, idleMs: 5_000 }
/** Apart from the sweepers: a long walk must not keep a container waiting that needs a fix-up. */
const METERS = { size: 1, idleMs: 5_000 }
const COPIERS = { size: 2, idleMs: 5_000 }

/**
 * Throws failed-precondition when another process has this root open, a newer program made it, or the driver that is asked for
 * does not work.
 */
export const openStorage = async (options: StorageOptions): Promise<Storage> => {
  const { root, containers, additional = [], linux, log, limits, writable = {} } = options
  const { snapshots = DEFAULT_SNAPSHOT_OPTIONS } = options
  const layout = layoutOf(root, containers)
  for (const directory of new Set([layout.root, layout.containers])) await makeDirectory(directory)
  const locks = takeLocks(layout, linux)
  const syncs = new Syncs(layout.root, linux)
  const places = { temp: layout.temp, whole: layout.blobs, partial: layout.partialBlobs }
  const pools = {
    unpackers: new UnpackPool(places, { ...UNPACKERS, onWritten: () => syncs.ahead() }),
    sweepers: new WorkerPool(SWEEPERS),
    meters: new WorkerPool(METERS),
    copiers: new WorkerPool(COPIERS),
    readers: new WorkerPool(READERS),
  }
  const { unpackers, sweepers, meters, copiers, readers } = pools
  const manifests = new Manifests(readers, log)
  const closePools = async (): Promise<void> => {
    await Promise.all(Object.values(pools).map((pool) => pool.close()))
    await manifests.close()
    syncs.close()
  }
  try {
    // Before anything is made: what a newer program keeps here is not touched.
    await checkVersion(layout)
    await removeUnfinishedWrites(layout.root)
    await createDirectories(layout)
    await startPool()
    const trash = new Trash(layout.trash, sweepers, log)
    const containersTrash =
      layout.containersTrash === layout.trash ? trash : new Trash(layout.containersTrash, sweepers, log)
    const quarantine = new Quarantine(layout.quarantine, log)
    const nobodys = new Set([layout.temp, layout.trash, layout.containersTemp, layout.containersTrash])
    const mounts = await sweepMounts(linux, log, [...nobodys])
    await trash.resume()
    if (containersTrash !== trash) await containersTrash.resume()
    await trash.takeContent(layout.temp)
    if (containersTrash !== trash) await containersTrash.takeContent(layout.containersTemp)
    if (trash.found > 0) log.info('Swept what was half made or half removed', { trees: trash.found })
    const others = await AdditionalLayers.open(additional, log)
    for (const index of additional.keys())
      await mkdir(join(layout.outside, `${index}`), { recursive: true, mode: 0o700 })
    const blobs = await BlobStore.open(layout, quarantine)
    const layers = await LayerStore.open({
      layout,
      syncs,
      log,
      blobs,
      unpackers,
      manifests,
      additional: others,
      trash,
      quarantine,
      ...(limits !== undefined && { limits }),
    })
    const fixUps = await FixUpStore.open({ layout, syncs, workers: copiers, manifests, trash, quarantine })
    const copies = await TreeCopies.open({ layout, syncs, workers: copiers, trash, quarantine })
    const drivers = await openDrivers({ layout, linux, log, copies, additional, workers: copiers, options: snapshots })
    const projects = Projects.open({ directory: layout.containers, linux, log, limits: writable })
    const parts = {
      layout,
      linux,
      log,
      layers,
      fixUps,
      copies,
      drivers,
      meters,
      copiers,
      projects,
      trash: containersTrash,
    }
    const rootfs = await RootfsStore.open(parts)
    const isSplit = statSync(root).dev !== statSync(layout.containers).dev
    const containersMountpoint = isSplit ? layout.containers : root
    return {
      mapsIds: drivers.chosen.mapsIds,
      root,
      containersMountpoint,
      blobs,
      layers,
      rootfs,
      usage: () => ({
        images: {
          mountpoint: root,
          ...[layers.usage(), fixUps.usage(), copies.usage()].reduce(addUsage, blobs.usage()),
        },
        containers: { mountpoint: containersMountpoint, ...rootfs.usage() },
      }),
      pack: (directory, output, bounds, signal) => copiers.run('pack', { directory, output, limits: bounds }, signal),
      extract: (archive, directory, bounds, signal) =>
        copiers.run('extract', { archive, directory, limits: bounds }, signal),
      complete: async (stack) => {
        await treesOf(
          stack.map((diffId) => presentLayer(layers, diffId)),
          fixUps,
        )
      },
      collectGarbage: ({ keep }) => collectGarbage({ keep, layers, fixUps, rootfs, log }),
      check: async (stacks, signal) => {
        await manifests.made()
        const canMount = drivers.chosen.name === 'overlay'
        const looking = { layout, linux, workers: readers, stacks, mounts: canMount, additional }
        return checkStorage({ ...looking, ...(signal && { signal }) })
      },
      repair: (findings) => repairStorage({ findings, blobs, layers, fixUps, quarantine }),
      refreshAdditional: () => others.refresh(),
      counters: () => ({
        quarantined: quarantine.taken,
        sweptMounts: mounts,
        swept: trash.found + (containersTrash === trash ? 0 : containersTrash.found),
      }),
      trashEmptied: async () => {
        await trash.emptied()
        await containersTrash.emptied()
      },
      close: async () => {
        trash.close()
        containersTrash.close()
        await Promise.all([layers.close(), rootfs.close()])
        await closePools()
        await syncRoot(root, linux, log)
        if (isSplit) await syncRoot(layout.containers, linux, log)
        releaseAll(locks)
      },
    }
  } catch (error) {
    await closePools()
    releaseAll(locks)
    throw error
  }
}
