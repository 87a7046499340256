/**
 * What a stack of layers shows at a path, as overlayfs would if it were mounted. Links on the way are followed inside the stack, component
 * by component, so that the kernel is never given one to follow.
 */
import { lstatSync, readlinkSync, type Stats } from 'node:fs'
import { isErrno } from '#linux/errno.ts'
import { lgetXattr } from '#linux/xattr.ts'
import { toBytes } from '../tree/bytes.ts'
import { MAX_LINKS_FOLLOWED } from './limits.ts'
import { refused, shown } from './refused.ts'
import { join, type PathInLayer, ROOT } from './safe-path.ts'
import { OPAQUE_XATTR } from './whiteout.ts'

export interface Found {
  /** Without links on the way. */
  readonly path: PathInLayer
  /** Where it is, from the thread's root. */
  readonly place: string
  readonly stat: Stats
}

/** A directory that the stack shows: the trees that have it, topmost first. */
interface Level {
  readonly path: PathInLayer
  readonly places: readonly string[]
}

type Shown = { readonly is: 'directory'; readonly level: Level } | ({ readonly is: 'leaf' } & Found)

/**
 * @param trees in overlayfs form, topmost first; what an opaque root hides is not among them
 * @param path what it names at its end is not followed. Undefined when there is nothing, or a directory
 * @param looking called before each look at a file; throws to stop
 */
export const findInStack = (trees: readonly string[], path: PathInLayer, looking: () => void): Found | undefined => {
  const levels: Level[] = [{ path: ROOT, places: trees }]
  const rest = path.split('/').reverse()
  let links = 0
  for (let part = rest.pop(); part !== undefined; part = rest.pop()) {
    const found = step(levels, part, looking)
    if (found === 'nothing') return undefined
    if (found === 'on the way') continue
    if (rest.length === 0) return found
    if (!found.stat.isSymbolicLink()) return undefined
    links += 1
    if (links > MAX_LINKS_FOLLOWED) throw refused(`Archive has a hard link through too many links: ${shown(path)}`)
    const target = readlinkSync(toBytes(found.place), 'latin1')
    if (target.startsWith('/')) levels.length = 1
    rest.push(...target.split('/').reverse())
  }
  return undefined
}

/** Goes into a directory, or out of one. */
const step = (levels: Level[], part: string, looking: () => void): Found | 'on the way' | 'nothing' => {
  if (part === '..' && levels.length > 1) levels.pop()
  if (part === '' || part === '.' || part === '..') return 'on the way'
  const found = look(levels.at(-1), part, looking)
  if (found === undefined) return 'nothing'
  if (found.is === 'leaf') return found
  levels.push(found.level)
  return 'on the way'
}

const look = (level: Level | undefined, name: string, looking: () => void): Shown | undefined => {
  if (level === undefined) return undefined
  const path = join(level.path, name)
  const places: string[] = []
  for (const directory of level.places) {
    looking()
    const place = `${directory}/${name}`
    const stat = statOf(place)
    if (stat === undefined) continue
    if (!stat.isDirectory()) {
      if (places.length > 0) break
      return isWhiteout(stat) ? undefined : { is: 'leaf', path, place, stat }
    }
    places.push(place)
    if (lgetXattr(toBytes(place), OPAQUE_XATTR) !== undefined) break
  }
  return places.length === 0 ? undefined : { is: 'directory', level: { path, places } }
}

const statOf = (place: string): Stats | undefined => {
  try {
    return lstatSync(toBytes(place), { throwIfNoEntry: false })
  } catch (error) {
    if (isErrno(error, 'ENAMETOOLONG')) throw refused('Archive has a hard link to a name that is too long')
    throw error
  }
}

const isWhiteout = (stat: Stats): boolean => stat.isCharacterDevice() && Number(stat.rdev) === 0
