/** Writes small files so that a reader sees the old content or the new, never a part, also after a power cut when `durable`. */
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  openSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { type FileHandle, open, readdir, rename, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { isErrno, LinuxError } from './errno.ts'
import { readFdBounded } from './read-bounded.ts'

export interface WriteOptions {
  /** Permission bits, exactly these whatever the umask; 0600 when not given. */
  mode?: number
  /** Sync the file and its directory before returning. */
  durable?: boolean
}

const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
const READ = constants.O_RDONLY | constants.O_NONBLOCK
const READ_DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY

/** Beside the file, so that the rename stays in one filesystem. The dot keeps it out of listings, `.tmp` marks it for the sweeper. */
const temporaryName = (path: string): string =>
  join(dirname(path), `.${basename(path).slice(0, 200)}.${randomBytes(6).toString('hex')}.tmp`)

/** Removes what processes that were killed had begun to write in a directory that nobody writes to now. */
export const removeUnfinishedWrites = async (directory: string): Promise<void> => {
  for (const name of await readdir(directory))
    if (name.startsWith('.') && name.endsWith('.tmp')) await unlink(join(directory, name))
}

const bytesOf = (data: string | Uint8Array): Uint8Array => (typeof data === 'string' ? Buffer.from(data) : data)

/** Replaces the file at `path`. Nothing is left behind on failure. Throws the error of the step that failed. */
export const writeFileAtomic = async (
  path: string,
  data: string | Uint8Array,
  { mode = 0o600, durable = false }: WriteOptions = {},
): Promise<void> => {
  const temporary = temporaryName(path)
  const file = await open(temporary, CREATE, 0o600)
  try {
    try {
      await file.writeFile(bytesOf(data))
      await file.chmod(mode)
      if (durable) await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await unlink(temporary).catch(() => {})
    throw error
  }
  if (durable) await syncDirectory(dirname(path))
}

const syncDirectory = async (path: string): Promise<void> => {
  const directory = await open(path, READ_DIRECTORY)
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

const writeWhole = (fd: number, bytes: Uint8Array): void => {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done)
}

const fillTemporary = (temporary: string, bytes: Uint8Array, mode: number, durable: boolean): void => {
  const fd = openSync(temporary, CREATE, 0o600)
  try {
    writeWhole(fd, bytes)
    fchmodSync(fd, mode)
    if (durable) fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** `writeFileAtomic` for those who must not give up the tick. */
export const writeFileAtomicSync = (
  path: string,
  data: string | Uint8Array,
  { mode = 0o600, durable = false }: WriteOptions = {},
): void => {
  const temporary = temporaryName(path)
  try {
    fillTemporary(temporary, bytesOf(data), mode, durable)
    renameSync(temporary, path)
  } catch (error) {
    try {
      unlinkSync(temporary)
    } catch {
      // It may not exist; the first error is the one that counts.
    }
    throw error
  }
  if (durable) fsyncDirectory(dirname(path))
}

/** Makes names created, renamed or removed in this directory survive a power cut. */
export const fsyncDirectory = (path: string): void => {
  const fd = openSync(path, READ_DIRECTORY)
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

const readAll = async (file: FileHandle, path: string, maxBytes: number): Promise<Buffer> => {
  const stat = await file.stat()
  if (!stat.isFile()) throw new LinuxError('EINVAL', 'read', path, 'not a regular file')
  if (stat.size > maxBytes) throw new LinuxError('EFBIG', 'read', path, `more than ${maxBytes} bytes`)
  const bytes = Buffer.alloc(stat.size)
  let total = 0
  while (total < bytes.length) {
    const { bytesRead } = await file.read(bytes, total, bytes.length - total, null)
    if (bytesRead === 0) break
    total += bytesRead
  }
  return bytes.subarray(0, total)
}

/** The content of a regular file, or undefined when there is none. Throws EFBIG beyond `maxBytes` (16 MiB when not given). */
export const readFileIfExists = async (path: string, maxBytes = 16 * 1024 * 1024): Promise<Buffer | undefined> => {
  let file: FileHandle
  try {
    file = await open(path, READ)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
  try {
    return await readAll(file, path, maxBytes)
  } finally {
    await file.close()
  }
}

/** `readFileIfExists` for those who must not give up the tick. */
export const readFileIfExistsSync = (path: string, maxBytes = 16 * 1024 * 1024): Buffer | undefined => {
  let fd: number
  try {
    fd = openSync(path, READ)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
  try {
    if (!fstatSync(fd).isFile()) throw new LinuxError('EINVAL', 'read', path, 'not a regular file')
    return readFdBounded(fd, maxBytes, path)
  } finally {
    closeSync(fd)
  }
}
