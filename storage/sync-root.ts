/** Brings what was written below the root to the disk, as long as the disk answers. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Linux } from '#linux/linux.ts'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'

/** Resolves when all is on the disk, after `deadlineMs`, or when the sync failed; says the latter two in the log. */
export async function syncRoot(root: string, linux: Linux, log: Log, deadlineMs = 5_000): Promise<void> {
  const timer = new AbortController()
  const late = sleep(deadlineMs, 'late' as const, { signal: timer.signal }).catch(() => undefined)
  const synced = linux.syncfs(root).catch((error: unknown) => {
    log.warn('Cannot sync the file system', { root, why: messageOf(error) })
  })
  if ((await Promise.race([synced, late])) === 'late')
    log.warn('The file system does not sync in time', { root, deadlineMs })
  timer.abort()
}
