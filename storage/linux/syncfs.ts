/** Making data durable, and room for it certain. */
import { open } from 'node:fs/promises'
import { sys, sysAsync } from './sys.ts'

/**
 * Writes out everything of the filesystem that a path, or something open, is on, on a pool thread. Reports write errors since the file was opened that
 * it has not reported: for a path only those that nobody else was told of.
 */
export const syncfs = async (target: string | number): Promise<void> => {
  if (typeof target === 'number') {
    await sysAsync('syncfs', target)
    return
  }
  const file = await open(target, 'r')
  try {
    await sysAsync('syncfs', file.fd)
  } finally {
    await file.close()
  }
}

/** Reserves the first `bytes` of a file, growing it. Throws ENOSPC now rather than at a later write. */
export const fallocate = (fd: number, bytes: number): void => {
  sys('fallocate', fd, 0, 0, bytes)
}
