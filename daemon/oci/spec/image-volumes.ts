/** The paths that an image declares as volumes (VOLUME of a Dockerfile). They come from the image, so they are hostile. */
import { posix } from 'node:path'
import { hasControlCharacters, impossible, isWithin, quoted } from './refuse.ts'

const MAX_VOLUMES = 100
const MAX_PATH = 4095

/** What the runtime mounts itself, and needs to be what it is. */
const RESERVED = ['/proc', '/sys', '/dev']

/**
 * Tidy absolute paths, each once, without those at which the request mounts something anyway.
 * @throws RuntimeError failed-precondition
 */
export const declaredVolumes = (declared: readonly string[], mounted: readonly string[]): string[] => {
  if (declared.length > MAX_VOLUMES)
    throw impossible(`Image declares ${declared.length} volumes, more than ${MAX_VOLUMES}`)
  const taken = new Set(mounted.map((path) => posix.normalize(path).replace(/(?<=.)\/$/, '')))
  return [...new Set(declared.map(checked))].filter((path) => !taken.has(path))
}

const checked = (declared: string): string => {
  const name = `Image declares the volume ${quoted(declared)}, which`
  if (declared === '' || hasControlCharacters(declared) || declared.length > MAX_PATH) {
    throw impossible(`${name} is no path`)
  }
  if (declared.split('/').includes('..')) throw impossible(`${name} has ".." in it`)
  // Builders keep what the author wrote; without a slash it means the same.
  const path = posix.resolve('/', declared)
  if (path === '/') throw impossible(`${name} is the root directory`)
  const reserved = RESERVED.find((each) => isWithin(path, each))
  if (reserved) throw impossible(`${name} lies in ${reserved}`)
  return path
}
