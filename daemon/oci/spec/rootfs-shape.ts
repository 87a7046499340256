/**
 * Directories of a rootfs in which the OCI runtime itself makes things before the container is confined. An image may say
 * that they are links; a runtime then makes its own links where these lead, on the host (seen with runc 1.1.5 and /dev).
 */
import { closeSync, fstatSync } from 'node:fs'
import { isErrno } from '#linux/errno.ts'
import type { Linux } from '#linux/linux.ts'
import { impossible } from './refuse.ts'

const O_PATH_NOFOLLOW = 0x200000 | 0x20000

const PLACES = ['proc', 'sys', 'dev']

/** @throws RuntimeError failed-precondition when one of them is there and no directory */
export const checkRootfsShape = (linux: Pick<Linux, 'openBeneath'>, rootfs: string): void => {
  for (const name of PLACES) {
    if (isDirectoryOrMissing(linux, rootfs, name)) continue
    throw impossible(`"/${name}" of the image is not a directory`)
  }
}

const isDirectoryOrMissing = (linux: Pick<Linux, 'openBeneath'>, rootfs: string, name: string): boolean => {
  let place: number
  try {
    place = linux.openBeneath(rootfs, name, O_PATH_NOFOLLOW)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return true
    throw error
  }
  try {
    return fstatSync(place).isDirectory()
  } finally {
    closeSync(place)
  }
}
