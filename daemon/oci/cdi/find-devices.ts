/** Finds CDI devices in the specifications on this node. They are read anew each time, because drivers come and go. */
import { closeSync, constants, fstatSync, openSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import { readFdBounded } from '#linux/read-bounded.ts'
import { messageOf } from '#proto/errors.ts'
import { impossible, invalid, quoted } from '../spec/refuse.ts'
import { type CdiEdits, type CdiSpec, parseCdiName, parseCdiSpec } from './spec-file.ts'

const MAX_FILES = 1000
const MAX_BYTES = 4 * 1024 * 1024

interface Found {
  readonly spec: CdiSpec
  readonly file: string
  /** The index of its directory: a later one wins. */
  readonly rank: number
}

/**
 * What these devices need, in the order of the names; what a file asks for on behalf of all its devices comes first, once.
 * A file that cannot be understood is skipped: `why` is told of it, and of all of them when a device is then not found.
 * @throws RuntimeError invalid-argument for a malformed name, failed-precondition for a device that nobody, or more than
 *   one file of the same directory, describes
 */
export const findCdiDevices = (
  directories: readonly string[],
  names: readonly string[],
  warn: (why: string) => void,
): CdiEdits[] => {
  if (names.length === 0) return []
  const problems: string[] = []
  const found = directories.flatMap((directory, rank) => readDirectory(directory, rank, problems))
  for (const problem of problems) warn(problem)
  const used = new Set<CdiSpec>()
  return [...new Set(names)].flatMap((name) => {
    const { spec, edits } = resolve(name, found, { directories, problems })
    const common = spec.edits !== undefined && !used.has(spec) ? [spec.edits] : []
    used.add(spec)
    return [...common, edits]
  })
}

const resolve = (
  name: string,
  found: readonly Found[],
  { directories, problems }: { directories: readonly string[]; problems: readonly string[] },
): { spec: CdiSpec; edits: CdiEdits } => {
  const parts = parseCdiName(name)
  if (!parts) throw invalid(`CDI_devices has ${quoted(name)}, which is not "vendor/class=device"`)
  const all = found.filter(({ spec }) => spec.kind === parts.kind && spec.devices.has(parts.device))
  const rank = Math.max(...all.map((each) => each.rank))
  const [best, ...rivals] = all.filter((each) => each.rank === rank)
  if (!best) {
    const hint = problems.length > 0 ? `; unreadable: ${problems.slice(0, 3).join('; ')}` : ''
    const places = directories.map(quoted).join(', ') || 'no directory'
    throw impossible(`CDI device ${quoted(name)} is described nowhere on this node (${places})${hint}`)
  }
  if (rivals.length > 0) {
    throw impossible(`CDI device ${quoted(name)} is described by both "${best.file}" and "${rivals[0]?.file}"`)
  }
  const edits = best.spec.devices.get(parts.device)
  return { spec: best.spec, edits: edits ?? {} }
}

const readDirectory = (directory: string, rank: number, problems: string[]): Found[] => {
  const files = namesIn(directory, problems).filter((name) => /^[^.].*\.(json|yaml)$/.test(name))
  return files.slice(0, MAX_FILES).flatMap((name) => {
    const file = join(directory, name)
    try {
      return [{ spec: parseCdiSpec(readRegular(file)), file, rank }]
    } catch (error) {
      problems.push(`CDI specification "${file}": ${messageOf(error).slice(0, 500)}`)
      return []
    }
  })
}

const namesIn = (directory: string, problems: string[]): string[] => {
  try {
    return readdirSync(directory).sort()
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) problems.push(`CDI directory "${directory}": ${messageOf(error)}`)
    return []
  }
}

/** Never waits for a FIFO, and takes no more than a limit. */
const readRegular = (path: string): string => {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
  try {
    if (!fstatSync(fd).isFile()) throw new Error('not a regular file')
    return readFdBounded(fd, MAX_BYTES, path).toString('utf8')
  } finally {
    closeSync(fd)
  }
}
