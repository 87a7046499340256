/** What overlayfs leaves behind of a mount that never syncs, so that nobody trusts what a crash may have torn. */
import { lstat, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import { RuntimeError } from '#proto/errors.ts'
import { workIn } from '../layout.ts'

/** Overlayfs makes it in a work directory that is mounted with `volatile`, and refuses to mount what has it. */
const markIn = (directory: string): string => join(workIn(directory), 'work', 'incompat', 'volatile')

/**
 * Lets overlayfs mount a root file system once more when the host has been up since it was mounted last: the page cache has what
 * was not synced.
 * @param boot ids of the boot in which it was mounted, and of this one
 * @throws RuntimeError failed-precondition for one that a crash may have torn
 */
export const trustVolatile = async (directory: string, boot: { since: string; now: string }): Promise<void> => {
  const mark = markIn(directory)
  try {
    await lstat(mark)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return
    throw error
  }
  if (boot.since !== boot.now)
    throw new RuntimeError('failed-precondition', 'it was not synced (volatile) before the host went down')
  await rm(mark, { recursive: true })
}
