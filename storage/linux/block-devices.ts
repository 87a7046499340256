/** The names of block devices, "/dev/sda" for 8:0. */
import { statSync } from 'node:fs'
import { readKernelFile } from './read-bounded.ts'

const names = new Map<string, string>()
const MAX_REMEMBERED = 1024

/** As udev and the kernel name it; "8:0" itself for a device that has no name. */
export const blockDeviceName = (major: number, minor: number): string => {
  const key = `${major}:${minor}`
  const known = names.get(key)
  if (known !== undefined) return known
  const name = /^DEVNAME=(.+)$/m.exec(readKernelFile(`/sys/dev/block/${key}/uevent`) ?? '')?.[1]
  // Numbers are given to other devices in time.
  if (names.size >= MAX_REMEMBERED) names.clear()
  names.set(key, name === undefined ? key : `/dev/${name}`)
  return names.get(key) ?? key
}

/** The device of the file system that a path is on. Blocks on a dead network mount: only for paths of our own. */
export const deviceOf = (path: string): string => {
  const dev = BigInt(statSync(path).dev)
  // As the C library's makedev lays them out.
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn)
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffffff00n)
  return blockDeviceName(Number(major), Number(minor))
}
