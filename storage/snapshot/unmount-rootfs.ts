/** Takes a root file system away from where it is seen, also when somebody is in it. */
import { isErrno } from '#linux/errno.ts'
import type { Linux } from '#linux/linux.ts'
import type { Log } from '#proto/log.ts'

interface UnmountNeeds {
  readonly linux: Pick<Linux, 'unmount'>
  readonly log: Log
}

/** A busy mount is detached: it ends with its last user, and nobody can enter it any more. Idempotent. */
export const unmountRootfs = (
  { linux, log }: UnmountNeeds,
  { id, mountpoint }: { readonly id: string; readonly mountpoint: string },
): void => {
  try {
    linux.unmount(mountpoint)
  } catch (error) {
    if (!isErrno(error, 'EBUSY')) throw error
    log.warn('Rootfs is busy, detaching it', { id, mountpoint })
    linux.unmount(mountpoint, { detach: true })
  }
}
