/** What a writable layer hides of the layers below, name by name: archives of checkpoints have no other way to say it. */
import { closeSync, constants, type Dirent, readdirSync } from 'node:fs'
import { isErrno } from '#linux/errno.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { Parts } from '../parts.ts'

/** Paths hold one character per byte, without a leading slash. */
export interface HidingLayer {
  readonly upper: string
  readonly lower: readonly string[]
  /** Names that are hidden. */
  readonly whiteouts: readonly string[]
  /** Directories of which nothing below shows. */
  readonly opaque: readonly string[]
}

type Needs = Pick<Parts, 'linux'>
type Found = ReadonlyMap<string, Pick<Dirent, 'isDirectory'>>

const MAX_NAMES = 1_000_000

/** @throws RuntimeError resource-exhausted when there are too many, failed-precondition for a name that is not UTF-8 */
export function hiddenFiles(needs: Needs, layer: HidingLayer): string[] {
  const hidden = new Set(layer.whiteouts)
  for (const directory of layer.opaque) hideBelow(needs, layer, directory, hidden)
  return [...hidden].map(readable)
}

/** All that the layers below have there and the upper one does not; names that they do not show either do no harm. */
function hideBelow(needs: Needs, layer: HidingLayer, top: string, hidden: Set<string>): void {
  const waiting = [top]
  for (let directory = waiting.pop(); directory !== undefined; directory = waiting.pop()) {
    const above = list(needs, layer.upper, directory)
    for (const lower of layer.lower) {
      for (const [name, entry] of list(needs, lower, directory)) {
        const path = directory === '.' ? name : `${directory}/${name}`
        const shown = above.get(name)
        if (shown === undefined) hidden.add(path)
        else if (shown.isDirectory() && entry.isDirectory()) waiting.push(path)
      }
    }
    requireFew(hidden.size + waiting.length)
  }
}

function requireFew(count: number): void {
  if (count > MAX_NAMES)
    throw new RuntimeError('resource-exhausted', `The container hides more than ${MAX_NAMES} files of its image`)
}

const OPEN = constants.O_RDONLY | constants.O_DIRECTORY

/** Empty where there is no such directory. No link is followed: layers hold what images put there. */
function list({ linux }: Needs, root: string, directory: string): Found {
  let fd: number
  try {
    fd = linux.openBeneath(root, Buffer.from(directory, 'latin1'), OPEN, 0, { noSymlinks: true })
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return new Map()
    throw error
  }
  try {
    const entries = readdirSync(`/proc/self/fd/${fd}`, { encoding: 'latin1', withFileTypes: true })
    return new Map(entries.map((entry) => [entry.name, entry]))
  } finally {
    closeSync(fd)
  }
}

function readable(path: string): string {
  const bytes = Buffer.from(path, 'latin1')
  const text = bytes.toString('utf8')
  if (Buffer.from(text).equals(bytes)) return text
  throw new RuntimeError(
    'failed-precondition',
    `The container has deleted ${JSON.stringify(text)}, a name that is not UTF-8`,
  )
}
