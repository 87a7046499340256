/** Marks directories of a layer as hiding what lower layers have in them, which only the daemon may: the attribute is a trusted one. */
import { closeSync, constants, openSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import { openBeneath } from '#linux/openat2.ts'
import { fsetXattr } from '#linux/xattr.ts'
import { toBytes } from '../tree/bytes.ts'
import type { PathInLayer } from './safe-path.ts'
import { OPAQUE_XATTR } from './whiteout.ts'

const AT_ONCE = 100
const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW

/** No link is followed: the paths are an unpacking process's, in a tree that it has made. */
export const markOpaque = async (tree: string, directories: readonly PathInLayer[]): Promise<void> => {
  if (directories.length === 0) return
  const root = openSync(tree, DIRECTORY)
  try {
    for (const [place, path] of directories.entries()) {
      if (place % AT_ONCE === AT_ONCE - 1) await turn()
      const fd = openBeneath(root, toBytes(path), DIRECTORY, 0, { noSymlinks: true })
      try {
        fsetXattr(fd, OPAQUE_XATTR, Buffer.from('y'))
      } finally {
        closeSync(fd)
      }
    }
  } finally {
    closeSync(root)
  }
}
