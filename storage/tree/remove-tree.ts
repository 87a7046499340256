/** Removes a directory with everything below it. For confined threads: whatever happens stays below the thread's root. */
import { rmdirSync, unlinkSync } from 'node:fs'
import { isErrno } from '#linux/errno.ts'
import { toBytes } from './bytes.ts'
import { walkTree } from './walk-tree.ts'

/** Throws the first error that is not "already gone"; the rest then stays. `checkpoint` may throw to stop. */
export const removeTree = (path: string, checkpoint?: () => void): void =>
  walkTree(path, {
    leaf: (leaf) => unlessGone(() => unlinkSync(toBytes(leaf))),
    leave: (directory) => unlessGone(() => rmdirSync(toBytes(directory))),
    ...(checkpoint !== undefined && { checkpoint }),
  })

const unlessGone = (remove: () => void): void => {
  try {
    remove()
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
}
