/** Anything but a directory once more somewhere else, without owner, mode and attributes. For confined threads. */
import { readlinkSync, type Stats, symlinkSync } from 'node:fs'
import { deviceMajor, deviceMinor, mknod } from '#linux/mknod.ts'
import { copyFileData } from './copy-file-data.ts'

/** @param to must not be there. `onBytes` is told of each piece of a file's content, and may throw */
export const makeLeaf = (from: Buffer, to: Buffer, stat: Stats, onBytes: (bytes: number) => void): void => {
  if (stat.isFile()) copyFileData(from, to, onBytes)
  else if (stat.isSymbolicLink()) symlinkSync(readlinkSync(from, { encoding: 'buffer' }), to)
  else {
    const type = stat.isFIFO() ? 'fifo' : stat.isBlockDevice() ? 'block' : 'char'
    const [major, minor] = type === 'fifo' ? [0, 0] : [deviceMajor(stat.rdev), deviceMinor(stat.rdev)]
    mknod(to, { type, mode: 0, major, minor })
  }
}
