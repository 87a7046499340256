/** Looks at a storage that nobody works with, and keeps others from beginning meanwhile. Changes nothing. */
import { existsSync } from 'node:fs'
import type { Linux } from '#linux/linux.ts'
import { layoutOf, requireVersion } from '../layout.ts'
import { takeLock } from '../locks.ts'
import { startPool } from '../tar/confine.ts'
import { WorkerPool } from '../tar/worker-pool.ts'
import { checkStorage, type Stack } from './check-storage.ts'
import type { Checked } from './finding.ts'

export interface ClosedStorage {
  readonly root: string
  readonly containers?: string
  readonly additional?: readonly string[]
  readonly linux: Linux
  readonly stacks: readonly Stack[]
}

/** undefined: there is no storage. Throws failed-precondition when somebody works with it or a newer program made it. */
export const checkClosedStorage = async (closed: ClosedStorage): Promise<Checked | undefined> => {
  const { root, containers, additional = [], linux, stacks } = closed
  const layout = layoutOf(root, containers)
  if (!existsSync(layout.version)) return undefined
  const lock = takeLock(layout.lock, linux)
  const workers = new WorkerPool({ size: 1, idleMs: 5_000 })
  try {
    await requireVersion(layout)
    await startPool()
    const mounts = canMount(linux, layout.mapped, [layout.empty, layout.quarantine])
    return await checkStorage({ layout, linux, workers, stacks, mounts, additional })
  } finally {
    await workers.close()
    lock.release()
  }
}

const canMount = (linux: Linux, target: string, lower: string[]): boolean => {
  try {
    linux.mountOverlay({ lower, target, options: ['ro'] })
    linux.unmount(target, { detach: true })
    return true
  } catch {
    return false
  }
}
