/**
 * Where the archive of a checkpoint goes. The path is the kubelet's, or that of whoever else may speak to the daemon as root; what must
 * not happen is that somebody without these rights has a hand in it. So no directory on the way may belong to others than root.
 */
import { lstatSync, realpathSync, type Stats } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, normalize } from 'node:path'
import { errnoOf } from '#linux/errno.ts'
import { RuntimeError } from '#proto/errors.ts'

export interface Location {
  /** An existing directory, without links on the way. */
  readonly dir: string
  readonly name: string
}

const MAX_BYTES = 4095
const STICKY = 0o1000
const OTHERS_WRITE = 0o022

/**
 * @param own directories of the daemon, in which nobody else may put anything
 * @throws RuntimeError invalid-argument for what is no path of a file; failed-precondition for what is not ours to write to
 */
export function readLocation(text: string, own: readonly string[]): Location {
  const field = `location ${JSON.stringify(text.slice(0, 300))}`
  const isTidy = text.startsWith('/') && !text.includes('\0') && normalize(text) === text && !text.endsWith('/')
  if (!isTidy || Buffer.byteLength(text) > MAX_BYTES)
    throw new RuntimeError('invalid-argument', `${field} must be the absolute path of a file, without "." and ".."`)
  const given = dirname(text)
  const dir = realPath(given, field)
  for (const path of [...parents(given), ...parents(dir)]) requireRoots(path, field)
  const inside = own.find((root) => `${dir}/`.startsWith(`${root}/`))
  if (inside !== undefined) throw refusal(field, `is in "${inside}", where cricket keeps its own files`)
  const there = lstatSync(join(dir, basename(text)), { throwIfNoEntry: false })
  if (there?.isDirectory()) throw refusal(field, 'is a directory')
  return { dir, name: basename(text) }
}

const refusal = (field: string, why: string, cause?: unknown): RuntimeError =>
  new RuntimeError('failed-precondition', `${field} ${why}`, { cause })

function realPath(path: string, field: string): string {
  try {
    const real = realpathSync(path)
    if (lstatSync(real).isDirectory()) return real
  } catch (cause) {
    const code = errnoOf(cause)
    if (code === undefined) throw cause
    throw refusal(field, `is in no directory that could be used (${code})`, cause)
  }
  throw refusal(field, 'is in no directory')
}

/** "/", "/a", "/a/b" */
const parents = (path: string): string[] => {
  const parts = path.split('/').filter((part) => part !== '')
  return ['/', ...parts.map((_, index) => `/${parts.slice(0, index + 1).join('/')}`)]
}

function requireRoots(path: string, field: string): void {
  const stat = lstatSync(path)
  if (stat.uid !== 0) throw refusal(field, `goes through "${path}", which belongs to user ${stat.uid}`)
  if (isOpenToOthers(stat)) throw refusal(field, `goes through "${path}", in which others than root can write`)
}

/** In a directory with the sticky bit, such as /tmp, nobody can take away what belongs to root. */
const isOpenToOthers = (stat: Stats): boolean =>
  stat.isDirectory() && (stat.mode & OTHERS_WRITE) !== 0 && (stat.mode & STICKY) === 0

/**
 * The file appears whole or not at all, readable by root alone; one of that name is replaced.
 * @param write gets an open file
 */
export async function writeAt({ dir, name }: Location, write: (fd: number) => Promise<void>): Promise<void> {
  const temporary = join(dir, `.${name.slice(0, 200)}.${process.pid}.${performance.now()}.tmp`)
  const file = await open(temporary, 'wx', 0o600)
  try {
    try {
      await file.chmod(0o600)
      await write(file.fd)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, join(dir, name))
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}
