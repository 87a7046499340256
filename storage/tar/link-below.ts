/**
 * Hard links of a layer to files of lower layers. As on a mounted overlay each such file is copied up, with all it has, and then linked: to
 * the names that the layer says, and to its own one, if that still shows. A file of a layer itself never gets another name.
 */
import { chmodSync, lchownSync, linkSync, lstatSync, type Stats } from 'node:fs'
import { makeLeaf } from '../snapshot/make-leaf.ts'
import { toBytes } from '../tree/bytes.ts'
import { addUsage, NO_USAGE, type Usage } from '../tree/measure-tree.ts'
import { copyXattrs } from './copy-xattrs.ts'
import { setTimes, timeOf } from './file-times.ts'
import { type Found, findInStack } from './find-in-stack.ts'
import { refused, shown, tooMuch } from './refused.ts'
import type { PathInLayer } from './safe-path.ts'
import type { LowerLink } from './unpack-messages.ts'

export interface LinkingParts {
  /** Below the layer, topmost first. */
  readonly trees: readonly string[]
  /** Those of them that are fix-ups: what is in them is a copy already, which gets the names instead of one more. */
  readonly copied: ReadonlySet<string>
  /** The most that may be copied. */
  readonly maxBytes: number
  /** Where a path is to be made; its directory is there then. */
  readonly placeOf: (path: PathInLayer) => Buffer
  /** Whether the layer says nothing about a path, so that what is below shows. */
  readonly showsBelow: (path: PathInLayer) => boolean
  readonly looking: () => void
  /** Told of bytes that were copied; may throw. */
  readonly onBytes: (bytes: number) => void
}

/** Throws failed-precondition for a link to what is no file of a lower layer, resource-exhausted for more than may be copied. Returns what the copies take. */
export const linkBelow = (links: readonly LowerLink[], parts: LinkingParts): Usage => {
  const copies = new Map<string, Buffer>()
  let usage = NO_USAGE
  for (const { path, target } of links) {
    const found = findInStack(parts.trees, target, parts.looking)
    if (found === undefined)
      throw refused(`A layer has a hard link ${shown(path)} to ${shown(target)}, which is no file of the layers below`)
    const key = `${found.stat.dev}:${found.stat.ino}`
    const place = parts.placeOf(path)
    const copy = copies.get(key)
    if (copy !== undefined) {
      linkSync(copy, place)
      continue
    }
    copies.set(key, place)
    if (isCopied(found, parts)) linkSync(toBytes(found.place), place)
    else usage = addUsage(usage, copyUp(found, place, usage.bytes, parts))
    if (parts.showsBelow(found.path)) linkSync(place, parts.placeOf(found.path))
  }
  return usage
}

const isCopied = ({ place, path }: Found, { copied }: LinkingParts): boolean =>
  copied.has(place.slice(0, place.length - path.length - 1))

const copyUp = ({ place, stat }: Found, to: Buffer, before: number, { maxBytes, onBytes }: LinkingParts): Usage => {
  if (before + allocatedOf(stat) > maxBytes)
    throw tooMuch('Layers have hard links for which more would have to be copied than all of them take')
  makeLeaf(toBytes(place), to, stat, onBytes)
  // The owner first: a change of it takes set-id bits and capabilities away.
  lchownSync(to, stat.uid, stat.gid)
  if (!stat.isSymbolicLink()) chmodSync(to, stat.mode & 0o7777)
  copyXattrs(toBytes(place), to)
  setTimes(to, timeOf(stat))
  return { bytes: allocatedOf(lstatSync(to)), inodes: 1 }
}

const allocatedOf = ({ blocks }: Stats): number => blocks * 512
