/**
 * From the path of an archive to its files. What CRIU wrote decides what the restored processes may do, down to their credentials and
 * mounts, and cannot be checked: so only archives are taken that nobody but root can have put there. All else in them counts as hostile.
 */
import { closeSync, constants, fstatSync, lstatSync } from 'node:fs'
import { mkdir, readFile, rm } from 'node:fs/promises'
import { join, normalize, relative } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { Parts } from '../parts.ts'
import { archiveFiles, type ConfigDump, parseConfigDump, parseDeletedFiles } from './archive.ts'

type Needs = Pick<Parts, 'config' | 'linux' | 'storage'>

/** The unpacked files of an archive. */
export interface OpenArchive {
  readonly config: ConfigDump
  /** The text of the OCI spec that the container had. */
  readonly spec: Buffer
  /** The directory of what CRIU wrote. */
  readonly images: string
  /** The archive of what the container wrote over its image; undefined when it wrote nothing. */
  readonly rootfs: string | undefined
  /** What it deleted of its image. One character per byte. */
  readonly deleted: readonly string[]
}

const MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
const MAX_FILES = 100_000
const OPEN = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW
const OTHERS_WRITE = 0o022

/**
 * Unpacks an archive into a new directory; the caller removes that, after a failure too.
 * @throws RuntimeError permission-denied for one that others than root have a hand in; not-found; failed-precondition for one that is
 *   broken or holds what it must not; resource-exhausted
 */
export async function openArchive(needs: Needs, path: string, dir: string, signal: AbortSignal): Promise<OpenArchive> {
  const fd = openTrusted(needs, path)
  try {
    return await readArchive(needs, fd, dir, signal)
  } finally {
    closeSync(fd)
  }
}

/** The same for an open file that is to be trusted. */
export async function readArchive(
  { config, storage }: Pick<Needs, 'config' | 'storage'>,
  fd: number,
  dir: string,
  signal: AbortSignal,
): Promise<OpenArchive> {
  await rm(dir, { recursive: true, force: true })
  await mkdir(dir, { mode: 0o700 })
  const bytes = config.checkpoint.maxMiB * 2 ** 20
  await storage.extract(fd, dir, { bytes, files: MAX_FILES }, signal)
  return readFiles(dir)
}

async function readFiles(dir: string): Promise<OpenArchive> {
  const config = parseConfigDump(await document(dir, archiveFiles.config))
  const spec = await document(dir, archiveFiles.spec)
  const images = join(dir, archiveFiles.images)
  if (!lstatSync(images, { throwIfNoEntry: false })?.isDirectory()) throw missing(archiveFiles.images)
  const hasRootfs = lstatSync(join(dir, archiveFiles.rootfs), { throwIfNoEntry: false })?.isFile()
  const hasDeleted = lstatSync(join(dir, archiveFiles.deleted), { throwIfNoEntry: false }) !== undefined
  return {
    config,
    spec,
    images,
    rootfs: hasRootfs ? join(dir, archiveFiles.rootfs) : undefined,
    deleted: hasDeleted ? parseDeletedFiles(await document(dir, archiveFiles.deleted)) : [],
  }
}

const missing = (name: string): RuntimeError =>
  new RuntimeError('failed-precondition', `The checkpoint has no "${name}"`)

async function document(dir: string, name: string): Promise<Buffer> {
  const path = join(dir, name)
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (!stat?.isFile()) throw missing(name)
  if (stat.size > MAX_DOCUMENT_BYTES)
    throw new RuntimeError('resource-exhausted', `The checkpoint's "${name}" has ${stat.size} bytes`)
  return readFile(path)
}

/** Opens it without following a link, so that what is looked at is what is read. */
function openTrusted({ config, linux }: Needs, path: string): number {
  const field = `image ${JSON.stringify(path.slice(0, 300))}`
  const { archiveDirs } = config.checkpoint
  const dir = archiveDirs.find((each) => path.startsWith(`${each}/`))
  if (dir === undefined || normalize(path) !== path || path.includes('\0')) {
    throw new RuntimeError(
      'permission-denied',
      `${field} is no archive in one of "checkpoint.archiveDirs" (${archiveDirs.join(', ')})`,
    )
  }
  requireRootsAlone(dir, relative(dir, path), field)
  const fd = openIn(linux, dir, relative(dir, path), field)
  const stat = fstatSync(fd)
  const isTrusted = stat.isFile() && stat.uid === 0 && (stat.mode & OTHERS_WRITE) === 0
  if (isTrusted) return fd
  closeSync(fd)
  throw new RuntimeError('permission-denied', `${field} must be a file of root's that nobody else can write to`)
}

function openIn(linux: Needs['linux'], dir: string, name: string, field: string): number {
  try {
    return linux.openBeneath(dir, name, OPEN, 0, { noSymlinks: true })
  } catch (cause) {
    if (isErrno(cause, 'ENOENT', 'ENOTDIR')) throw new RuntimeError('not-found', `${field} is not there`, { cause })
    if (isErrno(cause, 'ELOOP', 'EXDEV'))
      throw new RuntimeError('permission-denied', `${field} goes through a link`, { cause })
    throw cause
  }
}

/** The configured directory, those above it, and those on the way from it to the archive. */
function requireRootsAlone(dir: string, name: string, field: string): void {
  const parts = [...dir.split('/'), ...name.split('/').slice(0, -1)].filter((part) => part !== '')
  for (const path of ['/', ...parts.map((_, index) => `/${parts.slice(0, index + 1).join('/')}`)]) {
    const stat = lstatSync(path, { throwIfNoEntry: false })
    if (stat === undefined) throw new RuntimeError('not-found', `${field} is not there`)
    const isInside = path.length >= dir.length
    const isWritable = (stat.mode & OTHERS_WRITE) !== 0 && (isInside || (stat.mode & 0o1000) === 0)
    if (stat.uid === 0 && (stat.isSymbolicLink() || !isWritable)) continue
    throw new RuntimeError('permission-denied', `${field} is in "${path}", which others than root can write to`)
  }
}
