/** Makes directories inside a tree that somebody else filled, as a process chrooted into it would. */
import { closeSync, constants, fchownSync, fstatSync, mkdirSync } from 'node:fs'
import { isErrno } from './errno.ts'
import { openInRoot } from './openat2.ts'

const O_PATH = 0x200000
const DIRECTORY = O_PATH | constants.O_DIRECTORY

export interface MadeDirectory {
  readonly mode: number
  readonly uid: number
  readonly gid: number
}

/**
 * Makes `path` (tidy and absolute, meant from `root` on) and what is missing above it, mode 0755, owned by `owner`. Links
 * on the way are followed inside the root; nobody else may change the tree meanwhile.
 * @returns whose directory it is now
 * @throws LinuxError or Node's: ENOTDIR when something on the way is no directory, EEXIST for a link that leads nowhere
 */
export const makeDirectoriesInRoot = (
  root: string,
  path: string,
  owner: { readonly uid: number; readonly gid: number } = { uid: 0, gid: 0 },
): MadeDirectory => {
  let place = openInRoot(root, '/', DIRECTORY)
  try {
    let reached = ''
    for (const name of path.split('/').filter((part) => part !== '')) {
      reached += `/${name}`
      const next = openOrMake(root, reached, place, name, owner)
      closeSync(place)
      place = next
    }
    const { mode, uid, gid } = fstatSync(place)
    return { mode: mode & 0o7777, uid, gid }
  } finally {
    closeSync(place)
  }
}

const openOrMake = (
  root: string,
  reached: string,
  parent: number,
  name: string,
  owner: { readonly uid: number; readonly gid: number },
): number => {
  try {
    return openInRoot(root, reached, DIRECTORY)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
  // One name below an open directory: nothing is left to follow.
  mkdirSync(`/proc/self/fd/${parent}/${name}`, { mode: 0o755 })
  const made = openInRoot(root, reached, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  fchownSync(made, owner.uid, owner.gid)
  return made
}
