/**
 * Reads the account files of a mounted rootfs. Whoever made the image chose what lies there: links stay inside the rootfs,
 * a FIFO or device is never waited for, and no more than a limit is taken (CVE-2024-9676, CVE-2025-4437).
 */
import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import { isErrno } from '#linux/errno.ts'
import type { Linux } from '#linux/linux.ts'
import { messageOf } from '#proto/errors.ts'
import { impossible } from './refuse.ts'

export interface UserFiles {
  readonly passwd?: string | undefined
  readonly group?: string | undefined
}

const MAX_BYTES = 1024 * 1024

type Reader = Pick<Linux, 'openInRoot' | 'readFdBounded'>

/**
 * @returns the texts of /etc/passwd and /etc/group; absent where there is no such file
 * @throws RuntimeError failed-precondition for what is no regular file, or too large
 */
export const readUserFiles = (linux: Reader, rootfs: string): UserFiles => {
  const passwd = readInRoot(linux, rootfs, '/etc/passwd')
  const group = readInRoot(linux, rootfs, '/etc/group')
  return { ...(passwd !== undefined && { passwd }), ...(group !== undefined && { group }) }
}

const readInRoot = (linux: Reader, rootfs: string, path: string): string | undefined => {
  const place = locate(linux, rootfs, path)
  if (place === undefined) return undefined
  try {
    if (!fstatSync(place).isFile()) throw impossible(`"${path}" of the image is not a regular file`)
    return read(linux, place).toString('utf8')
  } catch (error) {
    if (isErrno(error, 'EFBIG')) throw impossible(`"${path}" of the image is larger than ${MAX_BYTES} bytes`, error)
    throw error
  } finally {
    closeSync(place)
  }
}

const O_PATH = 0x200000

/** Only finds the file: merely opening some devices does something. */
const locate = (linux: Reader, rootfs: string, path: string): number | undefined => {
  try {
    return linux.openInRoot(rootfs, path, O_PATH)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw impossible(`Cannot open "${path}" of the image: ${messageOf(error)}`, error)
  }
}

const read = (linux: Reader, place: number): Buffer => {
  const path = `/proc/self/fd/${place}`
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    return linux.readFdBounded(fd, MAX_BYTES, path)
  } finally {
    closeSync(fd)
  }
}
