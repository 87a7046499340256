/** The storage of one daemon: blobs, layers and rootfs below one root directory, which no second process may open. */
import { release } from 'node:os'
import { isErrno } from '#linux/errno.ts'
import type { Linux } from '#linux/linux.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { BlobStore } from './blob-store.ts'
import { type Collected, collectGarbage } from './collect-garbage.ts'
import type { DiffId } from './digest.ts'
import { FixUpStore } from './fix-up-store.ts'
import { LayerStore } from './layer-store.ts'
import { checkVersion, createDirectories, type Layout, layoutOf } from './layout.ts'
import { Quarantine } from './quarantine.ts'
import { RootfsStore } from './rootfs-store.ts'
import { syncRoot } from './sync-root.ts'
import { startPool } from './tar/confine.ts'
import type { UnpackLimits } from './tar/limits.ts'
import { WorkerPool } from './tar/worker-pool.ts'
import { Trash } from './trash.ts'
import { addUsage, type Usage } from './tree/measure-tree.ts'

export interface StorageOptions {
  /** Absolute; created when missing. All of it must be one file system that overlayfs can write to. */
  readonly root: string
  readonly linux: Linux
  readonly log: Log
  readonly limits?: Partial<UnpackLimits>
}

export interface Storage {
  readonly root: string
  readonly blobs: BlobStore
  readonly layers: LayerStore
  readonly rootfs: RootfsStore
  /** Whether a rootfs can be made for a user namespace. */
  readonly mapsIds: boolean
  /** Accounted as things come and go; for containers what was last measured. No walk. */
  usage(): { images: Usage; containers: Usage }
  /** Removes all layers that are neither kept nor below a rootfs. */
  collectGarbage(input: { keep: ReadonlySet<DiffId> }): Promise<Collected>
  /** Resolves once everything removed so far is gone from the disk. */
  trashEmptied(): Promise<void>
  /** Ends running work, brings what was written to the disk, and gives the root to others. Mounts stay. */
  close(): Promise<void>
}

/** Unpacking keeps a core busy and inflating another; more at once only costs memory. */
const UNPACKERS = { size: 2, idleMs: 10_000 }
const SWEEPERS = { size: 1, idleMs: 5_000 }
/** Apart from the sweepers: a long walk must not keep a container waiting that needs a fix-up. */
const METERS = { size: 1, idleMs: 5_000 }

/** Throws failed-precondition when another process has this root open or a newer program made it. */
export const openStorage = async ({ root, linux, log, limits }: StorageOptions): Promise<Storage> => {
  const layout = layoutOf(root)
  await createDirectories(layout)
  const lock = takeLock(layout, linux)
  const unpackers = new WorkerPool(UNPACKERS)
  const sweepers = new WorkerPool(SWEEPERS)
  const meters = new WorkerPool(METERS)
  try {
    await checkVersion(layout)
    await startPool()
    const trash = new Trash(layout.trash, sweepers, log)
    const quarantine = new Quarantine(layout.quarantine, log)
    await trash.takeContent(layout.temp)
    await trash.resume()
    const blobs = await BlobStore.open(layout, quarantine)
    const layers = await LayerStore.open({
      layout,
      linux,
      log,
      blobs,
      workers: unpackers,
      trash,
      quarantine,
      ...(limits !== undefined && { limits }),
    })
    const fixUps = await FixUpStore.open({ layout, linux, workers: sweepers, trash })
    const rootfs = await RootfsStore.open({ layout, linux, log, layers, fixUps, workers: meters, trash })
    return {
      mapsIds: overlaysMapIds() && linux.canMapIds(root),
      root,
      blobs,
      layers,
      rootfs,
      usage: () => ({ images: addUsage(blobs.usage(), layers.usage()), containers: rootfs.usage() }),
      collectGarbage: ({ keep }) => collectGarbage({ keep, layers, fixUps, rootfs, log }),
      trashEmptied: () => trash.emptied(),
      close: async () => {
        trash.close()
        await Promise.all([layers.close(), rootfs.close()])
        await Promise.all([unpackers.close(), sweepers.close(), meters.close()])
        await syncRoot(root, linux, log)
        lock.release()
      },
    }
  } catch (error) {
    await Promise.all([unpackers.close(), sweepers.close(), meters.close()])
    lock.release()
    throw error
  }
}

/** Layers of an overlay may lie on id-mapped mounts since Linux 5.19. */
const overlaysMapIds = (): boolean => {
  const [major = 0, minor = 0] = release()
    .split('.')
    .map((part) => Number.parseInt(part, 10))
  return major > 5 || (major === 5 && minor >= 19)
}

const takeLock = (layout: Layout, linux: Linux): { release(): void } => {
  try {
    return linux.lockFile(layout.lock)
  } catch (error) {
    if (!isErrno(error, 'EWOULDBLOCK')) throw error
    throw new RuntimeError('failed-precondition', `Storage "${layout.root}" is in use by another process`, {
      cause: error,
    })
  }
}
