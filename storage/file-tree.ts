/**
 * A layer that is no archive but a list of files, each a whole blob under a name: the content of an artifact. The files are
 * hard links to the blobs, so they take no room of their own and are shared by all trees that have them.
 */
import { chmod, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { RuntimeError } from '#proto/errors.ts'
import type { BlobStore } from './blob-store.ts'
import { type DiffId, type Digest, digestOf, parseDiffId } from './digest.ts'
import type { FilePath } from './file-path.ts'
import type { Usage } from './tree/measure-tree.ts'

export interface TreeFile {
  readonly path: FilePath
  readonly blob: Digest
}

export type FileTree = readonly TreeFile[]

/**
 * The files in order, each once.
 * @throws RuntimeError failed-precondition when two contents have one name, or a name is both a file and a directory
 */
export const fileTree = (files: Iterable<TreeFile>): FileTree => {
  const byPath = new Map<string, TreeFile>()
  for (const file of files) {
    const { path, blob } = file
    if ((byPath.get(path)?.blob ?? blob) !== blob) throw twice(path)
    byPath.set(path, file)
  }
  for (const path of byPath.keys()) for (const parent of parentsOf(path)) if (byPath.has(parent)) throw twice(parent)
  return [...byPath.values()].sort((a, b) => (a.path < b.path ? -1 : 1))
}

const twice = (path: string): RuntimeError =>
  new RuntimeError('failed-precondition', `File name ${JSON.stringify(path.slice(0, 100))} is there twice`)

/** "a/b/c" → "a", "a/b". */
const parentsOf = (path: string): string[] => {
  const parts = path.split('/')
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join('/'))
}

/**
 * What the tree is known by: names and digests, nothing else. Hashed twice, so that it is the digest of 71 bytes, which no
 * archive has: no layer of an image can ever stand in for it.
 */
export const treeIdOf = (tree: FileTree): DiffId =>
  parseDiffId(digestOf(digestOf(JSON.stringify(tree.map(({ path, blob }) => [path, blob])))))

const BLOCK = 4096

/**
 * Fills an empty directory that nobody else enters. Not yet synced.
 * @returns what it takes beside the blobs
 */
export const writeTree = async (directory: string, tree: FileTree, blobs: BlobStore): Promise<Usage> => {
  const made = new Set<string>()
  for (const parent of tree.flatMap(({ path }) => parentsOf(path))) {
    if (made.has(parent)) continue
    made.add(parent)
    await mkdir(join(directory, parent))
    await chmod(join(directory, parent), 0o755)
  }
  for (const { path, blob } of tree) await blobs.link(blob, join(directory, path))
  const inodes = made.size + 1
  return { bytes: inodes * BLOCK, inodes }
}
