/** Mounts that a killed process left in what it was making: they have to go before the rest can. */
import { readdir } from 'node:fs/promises'
import type { Linux } from '#linux/linux.ts'
import type { Log } from '#proto/log.ts'

/** @param directories whose whole content is nobody's. Returns how many mounts went. The table is read only where there is something. */
export const sweepMounts = async (linux: Linux, log: Log, directories: readonly string[]): Promise<number> => {
  const content = await Promise.all(directories.map((directory) => readdir(directory)))
  if (content.every((names) => names.length === 0)) return 0
  const isBelow = (path: string): boolean => directories.some((directory) => path.startsWith(`${directory}/`))
  const left = linux.readMountInfo().filter(({ mountpoint }) => isBelow(mountpoint))
  for (const { mountpoint } of left.reverse()) {
    linux.unmount(mountpoint, { detach: true })
    log.warn('Unmounted what a killed process had left', { mountpoint })
  }
  return left.length
}
