/**
 * Freezes a container for as long as something is done with it. Whatever happens it runs on afterwards: it is thawed when the work has
 * ended, when it fails, and by `resumeInterrupted` when the daemon that froze it is no more.
 */
import { errnoOf } from '#linux/errno.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { ContainerRecord } from '../container/container.ts'
import { hostCgroupPath } from '../oci/cgroup-path.ts'
import type { Parts } from '../parts.ts'

type Needs = Pick<Parts, 'linux' | 'log'>

const FREEZE_MS = 10_000

/** @throws RuntimeError failed-precondition when the container cannot be frozen, and what `work` throws */
export async function whileFrozen<T>(
  needs: Needs,
  record: ContainerRecord,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  try {
    await freeze(needs, record)
    signal.throwIfAborted()
    return await work()
  } finally {
    thaw(needs, record)
  }
}

async function freeze({ linux }: Needs, { id, cgroupsPath }: ContainerRecord): Promise<void> {
  try {
    if (await linux.freezeCgroup(hostCgroupPath(cgroupsPath), FREEZE_MS)) return
  } catch (cause) {
    if (errnoOf(cause) === undefined) throw cause
    throw new RuntimeError('failed-precondition', `Cannot freeze container "${id}": ${messageOf(cause)}`, { cause })
  }
  throw new RuntimeError('failed-precondition', `Container "${id}" did not freeze within ${FREEZE_MS / 1000} s`)
}

/** @returns whether it was frozen. What cannot be thawed is logged: who froze it has more to do. */
export function thaw({ linux, log }: Needs, { id, cgroupsPath }: ContainerRecord): boolean {
  try {
    return linux.thawCgroup(hostCgroupPath(cgroupsPath))
  } catch (error) {
    log.error('Cannot thaw a container', { container: id, why: messageOf(error) })
    return false
  }
}
