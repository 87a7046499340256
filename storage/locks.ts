/** Who works with a storage: one process, until it ends or gives the locks back. */
import { dirname } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import type { Linux } from '#linux/linux.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { Layout } from './layout.ts'

interface Lock {
  release(): void
}

export const releaseAll = (locks: readonly Lock[]): void => {
  for (const lock of locks) lock.release()
}

export const takeLocks = (layout: Layout, linux: Linux): Lock[] => {
  const locks: Lock[] = []
  try {
    for (const path of new Set([layout.lock, layout.containersLock])) locks.push(takeLock(path, linux))
    return locks
  } catch (error) {
    releaseAll(locks)
    throw error
  }
}

/** Throws failed-precondition when another process has it. */
export const takeLock = (path: string, linux: Linux): Lock => {
  try {
    return linux.lockFile(path)
  } catch (error) {
    if (!isErrno(error, 'EWOULDBLOCK')) throw error
    throw new RuntimeError('failed-precondition', `Storage "${dirname(path)}" is in use by another process`, {
      cause: error,
    })
  }
}
