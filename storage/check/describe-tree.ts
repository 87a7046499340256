/** Describes a layer's tree for its manifest, and compares it with one. For confined threads: the tree is the thread's root. */
import { createHash, hash } from 'node:crypto'
import { closeSync, constants, lstatSync, openSync, readlinkSync, readSync, type Stats } from 'node:fs'
import { isErrno } from '#linux/errno.ts'
import { lgetXattr, llistXattr } from '#linux/xattr.ts'
import { toBytes } from '../tree/bytes.ts'
import { walkTree } from '../tree/walk-tree.ts'
import type { Described } from './manifest.ts'

/** How a tree differs from its manifest. */
export interface Differences {
  /** The first of them, such as `"etc/passwd" is missing`. */
  readonly examples: readonly string[]
  readonly count: number
}

const MAX_EXAMPLES = 10
const MAX_XATTR_TEXT = 256
const CHUNK = 1 << 20
const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOATIME
/** What can be unpacked has paths that can be named, so the walk never has to cut them. */
const NEVER = Number.POSITIVE_INFINITY

const chunk = Buffer.allocUnsafe(CHUNK)

/** @param known digests of files whose content is known, by path */
export const describeLayer = (known: ReadonlyMap<string, string>, checkpoint: () => void): Described[] => {
  const entries: Described[] = []
  const digests = new Map<number, string>()
  visitAll(checkpoint, (path, stat) => {
    const about = aboutOf(path, stat)
    const xattrs = xattrsOf(path)
    if (!stat.isFile()) return void entries.push({ path, about, xattrs })
    const digest = known.get(path) ?? digests.get(stat.ino) ?? contentDigest(path, checkpoint)
    if (stat.nlink > 1) digests.set(stat.ino, digest)
    entries.push({ path, about, digest, xattrs })
  })
  return entries
}

/** Reads all files, each once. */
export const compareLayer = (manifest: ReadonlyMap<string, Described>, checkpoint: () => void): Differences => {
  const found = new Findings()
  const digests = new Map<number, string>()
  const seen = new Set<string>()
  visitAll(checkpoint, (path, stat) => {
    seen.add(path)
    const wanted = manifest.get(path)
    if (wanted === undefined) return found.add(path, 'was not in the layer')
    const about = aboutOf(path, stat)
    if (about !== wanted.about) return found.add(path, `is "${about}", was "${wanted.about}"`)
    if (wanted.xattrs !== undefined && wanted.xattrs !== xattrsOf(path))
      return found.add(path, 'has other extended attributes')
    if (wanted.digest === undefined) return
    const algorithm = wanted.digest.slice(0, wanted.digest.indexOf(':'))
    const digest = digests.get(stat.ino) ?? readable(path, algorithm, checkpoint)
    if (stat.nlink > 1) digests.set(stat.ino, digest)
    if (digest !== wanted.digest) found.add(path, digest.includes(':') ? 'has other content' : digest)
  })
  for (const path of manifest.keys()) if (!seen.has(path)) found.add(path, 'is missing')
  return { examples: found.examples, count: found.count }
}

class Findings {
  readonly examples: string[] = []
  count = 0

  add(path: string, what: string): void {
    this.count++
    if (this.examples.length < MAX_EXAMPLES) this.examples.push(`${JSON.stringify(toBytes(path).toString())} ${what}`)
  }
}

const visitAll = (checkpoint: () => void, see: (path: string, stat: Stats) => void): void => {
  const visit = (path: string): void => {
    const stat = lstatSync(toBytes(path), { throwIfNoEntry: false })
    if (stat !== undefined) see(path, stat)
  }
  walkTree('.', { leaf: visit, enter: visit, checkpoint }, NEVER)
}

const aboutOf = (path: string, stat: Stats): string => {
  const owner = `${(stat.mode & 0o7777).toString(8)} ${stat.uid}:${stat.gid}`
  if (stat.isDirectory()) return `dir ${owner}`
  if (stat.isSymbolicLink()) return `link ${owner} ${readlinkSync(toBytes(path), { encoding: 'latin1' })}`
  const time = Math.trunc(stat.mtimeMs)
  if (stat.isFile()) return `file ${owner} ${stat.size} ${time}`
  return `node ${(stat.mode & constants.S_IFMT).toString(8)} ${owner} ${stat.rdev}`
}

/** What images may set, and what overlayfs goes by. Labels are the host's, which may change them. */
const counts = (name: string): boolean =>
  name.startsWith('user.') || name === 'security.capability' || name.startsWith('trusted.overlay.')

/** Names and values; a digest of them where there is much. */
const xattrsOf = (path: string): string => {
  const bytes = toBytes(path)
  const named = namesOf(bytes).filter(counts).sort()
  const text = named.map((name) => `${name}=${lgetXattr(bytes, name)?.toString('base64')}`).join(' ')
  return text.length > MAX_XATTR_TEXT ? `sha256:${hash('sha256', text, 'hex')}` : text
}

const namesOf = (path: Uint8Array): string[] => {
  try {
    return llistXattr(path)
  } catch (error) {
    if (isErrno(error, 'EOPNOTSUPP')) return []
    throw error
  }
}

/** The digest, or what kept it from being read: bad sectors are what a check is for. */
const readable = (path: string, algorithm: string, checkpoint: () => void): string => {
  try {
    return contentDigest(path, checkpoint, algorithm)
  } catch (error) {
    checkpoint()
    return `cannot be read (${error instanceof Error && 'code' in error ? error.code : error})`
  }
}

const contentDigest = (path: string, checkpoint: () => void, algorithm = 'sha256'): string => {
  const fd = openSync(toBytes(path), READ)
  try {
    let length = readSync(fd, chunk, 0, CHUNK, null)
    if (length < CHUNK) return `${algorithm}:${hash(algorithm, chunk.subarray(0, length), 'hex')}`
    const running = createHash(algorithm)
    for (; length > 0; length = readSync(fd, chunk, 0, CHUNK, null)) {
      running.update(chunk.subarray(0, length))
      checkpoint()
    }
    return `${algorithm}:${running.digest('hex')}`
  } finally {
    closeSync(fd)
  }
}
