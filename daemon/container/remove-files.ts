/** Removes a directory of the daemon's own in which something of the host may be mounted. */
import { rm } from 'node:fs/promises'
import { RuntimeError } from '#proto/errors.ts'
import type { Parts } from '../parts.ts'

/** Idempotent. Whatever is still mounted below goes first: it must not be emptied with the rest. @throws when it stays */
export async function removeFiles({ linux }: Pick<Parts, 'linux'>, dir: string): Promise<void> {
  const below = () => linux.readMountInfo().filter(({ mountpoint }) => mountpoint.startsWith(`${dir}/`))
  for (const { mountpoint } of below().reverse()) {
    linux.setPropagation(mountpoint, 'private')
    linux.unmount(mountpoint, { detach: true })
  }
  const [left] = below()
  if (left) throw new RuntimeError('internal', `Cannot remove "${dir}": "${left.mountpoint}" is still mounted`)
  await rm(dir, { recursive: true, force: true })
}
