/**
 * Follows the links of a path as far as that can be done without asking a file system that may not answer. A thread that waits
 * for a dead server waits for ever, and the daemon has four for all files of all containers.
 */
import { readlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { isErrno, LinuxError } from '#linux/errno.ts'
import { readMountsOfTypes } from '#linux/mount-info.ts'

/** How far a path was followed. `found`: to its end. `beyond`: to a mount point; the links behind it are still to be followed. */
export type Followed =
  | { readonly is: 'found'; readonly path: string }
  | { readonly is: 'beyond'; readonly path: string; readonly mountpoint: string }

/** File systems whose answers come from elsewhere: another machine, or a process that may hang. Beginnings of the kernel's names. */
const FOREIGN = [
  ...['nfs', 'cifs', 'smb', 'ceph', '9p', 'afs', 'autofs', 'fuse', 'coda', 'orangefs', 'pvfs2'],
  ...['lustre', 'gpfs', 'beegfs', 'panfs', 'gfs2', 'ocfs2'],
]

/** As many as the kernel follows. */
const MAX_LINKS = 40

/** Type by mount point, of all mounts that may not answer. Those of the kernel itself (`binfmt_misc` is an automount) do. */
export const foreignMounts = (): Map<string, string> =>
  new Map(
    readMountsOfTypes(FOREIGN)
      .filter(({ mountpoint }) => !/^\/(?:proc|sys)\//.test(mountpoint))
      .map(({ mountpoint, fsType }) => [mountpoint, fsType]),
  )

/** Links that were looked at, by path; undefined for what is none. */
export type SeenLinks = Map<string, Promise<string | undefined>>

/**
 * @param path absolute
 * @param foreign mount points at which to stop
 * @throws what readlink throws, ENOENT above all; ELOOP
 */
export async function followLinks(
  path: string,
  foreign: ReadonlyMap<string, string>,
  seen: SeenLinks = new Map(),
): Promise<Followed> {
  const names = namesOf(path)
  let at = ''
  for (let links = 0; ; ) {
    const name = names.pop()
    if (name === undefined) return { is: 'found', path: at || '/' }
    if (name === '..') {
      at = dirname(at || '/').replace(/^\/$/, '')
      continue
    }
    const next = `${at}/${name}`
    if (foreign.has(next)) return { is: 'beyond', path: [next, ...names.reverse()].join('/'), mountpoint: next }
    const target = await linkAt(next, seen)
    if (target === undefined) {
      at = next
      continue
    }
    if (++links > MAX_LINKS) throw new LinuxError('ELOOP', 'readlink', path)
    if (target.startsWith('/')) at = ''
    names.push(...namesOf(target))
  }
}

/** Last one first. */
const namesOf = (path: string): string[] =>
  path
    .split('/')
    .filter((name) => name !== '' && name !== '.')
    .reverse()

function linkAt(path: string, seen: SeenLinks): Promise<string | undefined> {
  const known = seen.get(path)
  if (known) return known
  const looked = readlink(path).catch((error: unknown) => {
    if (isErrno(error, 'EINVAL')) return undefined
    throw error
  })
  seen.set(path, looked)
  return looked
}
