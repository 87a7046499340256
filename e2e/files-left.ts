/** What a runtime's own directories on a site still hold of pods: records, bundles, writable layers, runtime state. */

import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Site } from './site.ts'

/** Directories with an entry per sandbox or container; `docs/on-disk.md` names them. */
const perObject = [
  'root/sandboxes',
  'root/containers',
  'root/network',
  'root/storage/rootfs',
  'root/storage/temp',
  'state/sandboxes',
  'state/containers',
  'state/runc',
]

/** Entries of those directories; a quarantine is no leftover. */
export async function filesLeft(site: Site): Promise<string[]> {
  const lists = await Promise.all(
    perObject.map(async (dir) => {
      const names = await readdir(site.path(dir)).catch(() => [])
      return names.filter((name) => name !== 'quarantine').map((name) => join(dir, name))
    }),
  )
  return lists.flat()
}
