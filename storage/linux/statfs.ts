/** Size and kind of the filesystem a path is on. Blocks on a dead network mount: only for paths of our own. */
import { sysOn } from './sys.ts'

export interface FilesystemStat {
  /** The kernel's magic number, for instance 0x794c7630 for overlay. */
  type: number
  blockSize: number
  blocks: number
  free: number
  /** Free blocks that unprivileged users may take. */
  available: number
  files: number
  filesFree: number
}

/** statfs(2), struct of 64-bit machines. Throws LinuxError naming the path. */
export const statfs = (path: string): FilesystemStat => {
  const stat = Buffer.alloc(120)
  sysOn(path, 'statfs', path, stat)
  const word = (index: number) => Number(stat.readBigUInt64LE(index * 8))
  return {
    type: word(0),
    blockSize: word(1),
    blocks: word(2),
    free: word(3),
    available: word(4),
    files: word(5),
    filesFree: word(6),
  }
}
