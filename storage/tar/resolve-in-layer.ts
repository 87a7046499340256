/**
 * The way to a directory through the symbolic links of a layer, walked here and inside the layer, so that the confinement of the thread is
 * the second line of defence and not the only one. For confined threads: the layer is the thread's root.
 */
import { lstatSync, readlinkSync } from 'node:fs'
import { toBytes } from '../tree/bytes.ts'
import { MAX_LINKS_FOLLOWED, MAX_PATH_BYTES } from './limits.ts'
import { refused, shown } from './refused.ts'
import { join, type PathInLayer, parentOf, ROOT } from './safe-path.ts'

/** What is known of a layer without looking. */
export interface KnownOfLayer {
  isDirectory(place: PathInLayer): boolean
  isWhiteout(place: PathInLayer): boolean
  /** Makes one that is missing. Without it what is missing is left as it is, for the layers below. */
  makeDirectory?(place: PathInLayer): void
}

/** Throws failed-precondition for a way through something that is no directory, or through too many links. */
export const resolveInLayer = (path: PathInLayer, known: KnownOfLayer): PathInLayer => {
  let links = 0
  let current = ROOT
  const rest = path.split('/').reverse()
  for (let part = rest.pop(); part !== undefined; part = rest.pop()) {
    if (part === '' || part === '.') continue
    if (part === '..') {
      current = parentOf(current)
      continue
    }
    const next = join(current, part)
    const target = known.isDirectory(next) ? undefined : linkAt(next, path, known)
    if (target === undefined) {
      current = next
      continue
    }
    links += 1
    if (links > MAX_LINKS_FOLLOWED) throw refused(`Archive has too many links on the way to ${shown(path)}`)
    if (target.startsWith('/')) current = ROOT
    rest.push(...target.split('/').reverse())
  }
  return current
}

/** What the link at `place` says; undefined when a directory is there now, or what the layers below have. */
const linkAt = (place: PathInLayer, wanted: PathInLayer, known: KnownOfLayer): string | undefined => {
  if (place.length > MAX_PATH_BYTES) throw refused(`Archive has links that make the name of ${shown(wanted)} too long`)
  const bytes = toBytes(`/${place}`)
  const stat = lstatSync(bytes, { throwIfNoEntry: false })
  if (stat?.isSymbolicLink()) return readlinkSync(bytes, 'latin1')
  if (stat === undefined && known.makeDirectory === undefined) return undefined
  const isFree = stat === undefined || known.isWhiteout(place)
  if (!isFree || known.makeDirectory === undefined)
    throw refused(`Archive has an entry ${shown(wanted)} below something that is no directory`)
  known.makeDirectory(place)
  return undefined
}
