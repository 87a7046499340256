/** How much images may still fill. */

import type { Linux } from '#linux/linux.ts'

/** All but the reserve that the unpacker keeps too, so that the daemon's own small files can always be written. */
export const freeBytes = (linux: Linux, path: string): number => {
  const { available, blocks, blockSize } = linux.statfs(path)
  return available * blockSize - Math.min(2 ** 30, (blocks * blockSize) / 20)
}
