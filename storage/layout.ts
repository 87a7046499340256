/** The one file that knows where things are below the storage root, and which version of that this program speaks. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import { readFileIfExists, writeFileAtomic } from '#linux/atomic-file.ts'
import { RuntimeError } from '#proto/errors.ts'
import { algorithmOf, type Digest, hexOf } from './digest.ts'
import { syncDirectory } from './sync-directory.ts'

/** Goes up with every change that an older program would misread. */
const LAYOUT_VERSION = 1

/** Absolute paths; functions only join, nothing is created. */
export interface Layout {
  readonly root: string
  /** Locked by the one process that uses this root. */
  readonly lock: string
  readonly containersLock: string
  readonly version: string
  /** Whole, verified blobs. */
  readonly blobs: string
  /** Blobs whose rest is still to come; the length is the file's. */
  readonly partialBlobs: string
  readonly layers: string
  readonly fixUps: string
  /** Layers with other owners, and stacks applied; see snapshot/tree-copies.ts. */
  readonly copies: string
  /** Where containers write; the root itself unless they have a file system of their own. */
  readonly containers: string
  readonly rootfs: string
  /** What is being made; swept at start. */
  readonly temp: string
  readonly containersTemp: string
  /** What is being removed. */
  readonly trash: string
  readonly containersTrash: string
  /** What was found damaged: kept for whoever wants to know why, never used again. */
  readonly quarantine: string
  /** Where this directory is mounted for a moment with other owners, while an overlay is made; always empty otherwise. */
  readonly mapped: string
  /** Where additional stores are mounted with other owners, at the same moment; one empty directory for each. */
  readonly outside: string
  /** An empty directory, a lower layer for those who have none. */
  readonly empty: string
}

export const layoutOf = (root: string, containers = root): Layout => ({
  root,
  lock: join(root, 'lock'),
  containersLock: join(containers, 'lock'),
  version: join(root, 'version.json'),
  blobs: join(root, 'blobs'),
  partialBlobs: join(root, 'partial-blobs'),
  layers: join(root, 'layers'),
  fixUps: join(root, 'fix-ups'),
  copies: join(root, 'copies'),
  containers,
  rootfs: join(containers, 'rootfs'),
  temp: join(root, 'temp'),
  containersTemp: join(containers, 'temp'),
  trash: join(root, 'trash'),
  containersTrash: join(containers, 'trash'),
  quarantine: join(root, 'quarantine'),
  mapped: join(root, 'mapped'),
  outside: join(root, 'outside'),
  empty: join(root, 'empty'),
})

/** A digest as a file name. */
export const nameOf = (digest: Digest): string => `${algorithmOf(digest)}-${hexOf(digest)}`

/** The digest a file name stands for, or the name itself when it stands for none. */
export const digestText = (name: string): string => name.replace('-', ':')

/** Inside the directory of a layer, of a fix-up, and of a rootfs. */
export const treeIn = (directory: string): string => join(directory, 'diff')
export const recordIn = (directory: string): string => join(directory, 'record.json')
/** What the tree of a layer looked like when it was committed; missing for a moment after that. */
export const manifestIn = (directory: string): string => join(directory, 'manifest.zst')
/** The directory of a rootfs. */
export const rootfsIn = ({ rootfs }: Layout, id: string): string => join(rootfs, id)
export const upperIn = (directory: string): string => join(directory, 'upper')
export const workIn = (directory: string): string => join(directory, 'work')

/** Makes the directories below the root that are missing. Nobody but root enters: images contain set-id programs (CVE-2021-41103). */
export const createDirectories = async (layout: Layout): Promise<void> => {
  const { root, containers, version: _version, lock: _lock, containersLock: _other, ...inside } = layout
  for (const directory of new Set(Object.values(inside))) await mkdir(directory, { recursive: true, mode: 0o700 })
  for (const directory of new Set([root, containers])) await syncDirectory(directory)
}

const Version = z.object({ layout: z.int().positive() })

/** Writes the version of a new root. Throws failed-precondition for a root of a newer program or an unreadable version. */
export const checkVersion = async (layout: Layout): Promise<void> => {
  if ((await readFileIfExists(layout.version)) !== undefined) return requireVersion(layout)
  await writeFileAtomic(layout.version, `${JSON.stringify({ layout: LAYOUT_VERSION })}\n`, { durable: true })
}

/** Throws failed-precondition for what is no storage, or one of a newer program. Writes nothing. */
export const requireVersion = async (layout: Layout): Promise<void> => {
  const content = await readFileIfExists(layout.version)
  if (content === undefined)
    throw new RuntimeError('failed-precondition', `"${layout.root}" is no storage: it has no "${layout.version}"`)
  const found = readVersion(content)
  if (found === undefined)
    throw new RuntimeError('failed-precondition', `Version file "${layout.version}" of the storage is damaged`)
  if (found > LAYOUT_VERSION)
    throw new RuntimeError(
      'failed-precondition',
      `Storage "${layout.root}" has layout version ${found}, this program knows versions up to ${LAYOUT_VERSION}`,
    )
}

const readVersion = (content: Buffer): number | undefined => {
  try {
    return Version.parse(JSON.parse(content.toString())).layout
  } catch {
    return undefined
  }
}
