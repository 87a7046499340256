/** Keeps to this mount namespace what will be mounted below a mount. */
import type { Linux } from '#linux/linux.ts'

/** What is mounted in a root file system, by its runtime for instance, is nobody else's concern. On failure it is unmounted. */
export const makePrivate = (linux: Pick<Linux, 'setPropagation' | 'unmount'>, mountpoint: string): void => {
  try {
    linux.setPropagation(mountpoint, 'private')
  } catch (error) {
    linux.unmount(mountpoint, { detach: true })
    throw error
  }
}
