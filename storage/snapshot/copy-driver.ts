/**
 * Root file systems by copying, for hosts without a usable overlayfs: a container's is a tree of its own, made of all layers; a
 * read-only one is shared. Takes room and time for each container (neither where the file system can share blocks of files).
 */
import { mkdir, stat } from 'node:fs/promises'
import type { Linux } from '#linux/linux.ts'
import type { MountFlag } from '#linux/mount.ts'
import { upperIn } from '../layout.ts'
import type { WorkerPool } from '../tar/worker-pool.ts'
import type { Usage } from '../tree/measure-tree.ts'
import type { Driver, Place } from './driver.ts'
import { makePrivate } from './make-private.ts'
import type { Snapshot } from './snapshot.ts'
import { setRoot, TreeCopies, type TreeCopy } from './tree-copies.ts'

export interface CopyDriverParts {
  readonly linux: Linux
  readonly copies: TreeCopies
  readonly workers: WorkerPool
}

const FLAGS: readonly MountFlag[] = ['nosuid', 'nodev', 'noexec']
const CONTEXT = 'context='

export class CopyDriver implements Driver {
  readonly name = 'copy'
  readonly mapsIds = true
  readonly #parts: CopyDriverParts

  constructor(parts: CopyDriverParts) {
    this.#parts = parts
  }

  optionsOf(): string[] {
    return []
  }

  copiesOf(snapshot: Snapshot): string[] {
    return snapshot.readonly ? [TreeCopies.nameOf(shared(snapshot))] : []
  }

  async make(directory: string, snapshot: Snapshot): Promise<Usage> {
    const target = upperIn(directory)
    await mkdir(target, { mode: 0o755 })
    if (snapshot.readonly) return { bytes: (await stat(target)).blocks * 512, inodes: 1 }
    const { trees, idMap, root } = snapshot
    const label = labelOf(snapshot)
    const paths = trees.map(({ path }) => path)
    const usage = await this.#parts.workers.run('copy', { trees: paths, target, form: 'flat', idMap, label })
    await setRoot(target, root, idMap)
    return usage
  }

  async mount({ directory, mountpoint }: Place, snapshot: Snapshot): Promise<void> {
    const { copies, linux } = this.#parts
    const { readonly, options } = snapshot
    const source = readonly ? await copies.treeOf(shared(snapshot)) : upperIn(directory)
    linux.bindTree({ source, target: mountpoint, readonly })
    const flags = FLAGS.filter((flag) => options.includes(flag))
    try {
      linux.remount(mountpoint, ['bind', ...(readonly ? (['ro'] as const) : []), ...flags])
    } catch (error) {
      linux.unmount(mountpoint, { detach: true })
      throw error
    }
    makePrivate(linux, mountpoint)
  }
}

const shared = (snapshot: Snapshot): TreeCopy => {
  const { trees, idMap, root } = snapshot
  return { trees, form: 'flat', idMap, root, label: labelOf(snapshot) }
}

/** A mount has no label of its own here, so each file gets it. */
const labelOf = ({ options }: Snapshot): string | undefined =>
  options.find((option) => option.startsWith(CONTEXT))?.slice(CONTEXT.length)
