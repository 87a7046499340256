/** Removes a directory of the daemon's own in which something of the host may be mounted. */
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { RuntimeError } from '#proto/errors.ts'
import type { Parts } from '../parts.ts'

/** Idempotent. Whatever is still mounted below goes first: it must not be emptied with the rest. @throws when it stays */
export async function removeFiles({ linux }: Pick<Parts, 'linux'>, dir: string): Promise<void> {
  // The table of mounts takes milliseconds to read: not for what is not there, nor twice where nothing is mounted.
  if (!existsSync(dir)) return
  const below = () => linux.readMountInfo().filter(({ mountpoint }) => mountpoint.startsWith(`${dir}/`))
  const mounts = below()
  for (const { mountpoint } of mounts.toReversed()) {
    linux.setPropagation(mountpoint, 'private')
    linux.unmount(mountpoint, { detach: true })
  }
  const [left] = mounts.length > 0 ? below() : []
  if (left) throw new RuntimeError('internal', `Cannot remove "${dir}": "${left.mountpoint}" is still mounted`)
  await rm(dir, { recursive: true, force: true })
}
