/** What a tree takes on disk, each hard-linked file once. For confined threads. */
import { lstatSync, type Stats } from 'node:fs'
import { toBytes } from './bytes.ts'
import { walkTree } from './walk-tree.ts'

/** Allocated bytes and inodes. */
export interface Usage {
  readonly bytes: number
  readonly inodes: number
}

export const NO_USAGE: Usage = { bytes: 0, inodes: 0 }

export const addUsage = (a: Usage, b: Usage): Usage => ({ bytes: a.bytes + b.bytes, inodes: a.inodes + b.inodes })

/** Measures `root` and everything below it. Files that vanish meanwhile do not count. */
export const measureTree = (root: string, checkpoint?: () => void): Usage => {
  const linked = new Set<number>()
  let bytes = 0
  let inodes = 0
  const count = (path: string): void => {
    const stat: Stats | undefined = lstatSync(toBytes(path), { throwIfNoEntry: false })
    if (stat === undefined) return
    if (stat.nlink > 1 && !stat.isDirectory()) {
      if (linked.has(stat.ino)) return
      linked.add(stat.ino)
    }
    bytes += stat.blocks * 512
    inodes += 1
  }
  walkTree(root, { leaf: count, enter: count, ...(checkpoint !== undefined && { checkpoint }) })
  return { bytes, inodes }
}
