/** A directory for one test, taken away afterwards together with whatever got mounted in it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { unmount } from '../mount.ts'
import { readMountInfo } from '../mount-info.ts'

/** Makes the directory; it goes when the test `t` ends, however it ends. */
export const scratch = (t: TestContext): string => {
  const directory = mkdtempSync(join(tmpdir(), 'cricket-linux-'))
  t.after(() => {
    const mounts = readMountInfo().filter(({ mountpoint }) => `${mountpoint}/`.startsWith(`${directory}/`))
    for (const { mountpoint } of mounts.reverse()) unmount(mountpoint, { detach: true })
    rmSync(directory, { recursive: true, force: true })
  })
  return directory
}
