/** Entry names → paths in the layer. Pure: no look at the file system. Strings hold one character per byte. */
import { MAX_COMPONENT_BYTES, MAX_PATH_BYTES } from './limits.ts'
import { refused, shown } from './refused.ts'

declare const pathBrand: unique symbol

/**
 * A path below the layer's root: no leading slash, no `.`, no `..`, no empty component; `''` is the root itself.
 * Says nothing about symbolic links on the way.
 */
export type PathInLayer = string & { readonly [pathBrand]: true }

export const ROOT = '' as PathInLayer

/** Leading slashes and `.` components are dropped; `..`, NUL and what the kernel could not hold throw failed-precondition. */
export const pathInLayer = (name: string): PathInLayer => {
  if (name === '') throw refused('Archive has an entry without a name')
  if (name.length > MAX_PATH_BYTES) throw refused(`Archive has a name of ${name.length} bytes: ${shown(name)}`)
  if (name.includes('\0')) throw refused(`Archive has a name with a NUL byte: ${shown(name)}`)
  const bare = name.slice(name.startsWith('./') ? 2 : 0, name.endsWith('/') ? -1 : undefined)
  return (isPlain(bare) ? bare : componentsOf(name).join('/')) as PathInLayer
}

/** Nearly all names need no more rewriting; one test is cheaper than splitting each. */
const isPlain = (name: string): boolean =>
  name.length <= MAX_COMPONENT_BYTES && !/(?:^|\/)(?:\.{0,2})(?:\/|$)/.test(name)

const componentsOf = (name: string): string[] => {
  const components = name.split('/').filter((part) => part !== '' && part !== '.')
  for (const part of components) {
    if (part === '..') throw refused(`Archive has a name that leads upwards: ${shown(name)}`)
    if (part.length > MAX_COMPONENT_BYTES)
      throw refused(`Archive has a name with a part of ${part.length} bytes: ${shown(name)}`)
  }
  return components
}

/** The directory a path is in; the root is its own parent. */
export const parentOf = (path: PathInLayer): PathInLayer =>
  path.slice(0, Math.max(0, path.lastIndexOf('/'))) as PathInLayer

export const baseOf = (path: PathInLayer): string => path.slice(path.lastIndexOf('/') + 1)

export const join = (parent: PathInLayer, base: string): PathInLayer =>
  (parent === '' ? base : `${parent}/${base}`) as PathInLayer
