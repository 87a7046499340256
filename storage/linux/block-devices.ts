/** The names of block devices, "/dev/sda" for 8:0. */
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
