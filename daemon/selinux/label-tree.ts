/**
 * Gives everything in a tree one SELinux label. Links are labelled, never followed; what has the label already is left
 * alone, and the top comes last: a run that was cut short is finished by the next one, and a top with the label says
 * that all below has it. Moves the working directory, so only for a process of its own.
 */
import { closeSync, fstatSync } from 'node:fs'
import { dirname } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import { openBeneath } from '#linux/openat2.ts'
import { lgetXattr, lsetXattr } from '#linux/xattr.ts'
import { changeDirectory } from '#storage/tar/confine.ts'
import { toBytes } from '#storage/tree/bytes.ts'
import { walkTree } from '#storage/tree/walk-tree.ts'

export const ATTRIBUTE = 'security.selinux'

const O_PATH = 0x200000

export interface LabelTree {
  /** Absolute, its links resolved; one that has become a link since is refused. */
  readonly path: string
  readonly label: string
  /** Whether a top that has the label is taken for the whole. */
  readonly trustTop: boolean
}

export interface Labelled {
  readonly seen: number
  readonly changed: number
}

/** @param progress called for every file. @throws LinuxError with the path; ELOOP when a link got in the way */
export const labelTree = ({ path, label, trustTop }: LabelTree, progress: (done: Labelled) => void): Labelled => {
  const wanted = Buffer.from(`${label}\0`)
  const done = { seen: 0, changed: 0 }
  const visit = (place: string): void => {
    if (setLabel(place, wanted)) done.changed++
    done.seen++
    progress(done)
  }
  const top = openTop(path)
  try {
    const isDirectory = fstatSync(top).isDirectory()
    changeDirectory(isDirectory ? top : openTop(dirname(path)))
    const name = isDirectory ? '.' : path.slice(path.lastIndexOf('/') + 1)
    if (trustTop && hasLabel(name, wanted)) return done
    if (isDirectory) walkTree(name, { leaf: visit, leave: visit })
    else visit(name)
    return done
  } finally {
    closeSync(top)
  }
}

const openTop = (path: string): number => {
  return openBeneath('/', path.slice(1) || '.', O_PATH, 0, { noSymlinks: true })
}

const hasLabel = (place: string, wanted: Buffer): boolean => {
  const has = lgetXattr(toBytes(place), ATTRIBUTE)
  return has !== undefined && (wanted.equals(has) || wanted.subarray(0, -1).equals(has))
}

/** @returns whether it had another one. Where files cannot have labels, that of the mount holds, as for other runtimes. */
const setLabel = (place: string, wanted: Buffer): boolean => {
  try {
    if (hasLabel(place, wanted)) return false
    lsetXattr(toBytes(place), ATTRIBUTE, wanted)
    return true
  } catch (error) {
    // It went away meanwhile, or the file system keeps no labels.
    if (isErrno(error, 'ENOENT', 'ENOTSUP', 'EOPNOTSUPP')) return false
    throw error
  }
}
