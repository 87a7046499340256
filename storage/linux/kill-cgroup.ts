/** Kills everything in a cgroup and waits until it is empty: what a container leaves behind, forks in flight included. */
import { closeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { RuntimeError } from '#proto/errors.ts'
import { type CgroupLayout, cgroupLayout, cgroupProcesses, listingDirectory } from './cgroup.ts'
import { isErrno } from './errno.ts'
import { sendPidfdSignal } from './pidfd.ts'
import { rawSys } from './sys.ts'
import { writeKernelFile } from './write-kernel-file.ts'

export interface KillCgroupOptions {
  timeoutMs?: number
  abort?: AbortSignal
  layout?: CgroupLayout
}

const SIGKILL = 9
const DEFAULT_TIMEOUT_MS = 10_000
const MAX_PAUSE_MS = 100

/** Writes where the file exists; says whether it did. */
const tryWrite = (path: string, value: string): boolean => {
  try {
    writeKernelFile(path, value)
    return true
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV', 'EOPNOTSUPP')) return false
    throw error
  }
}

/**
 * Signals through pidfds, and only who is still listed after its pidfd was opened: a pid that changed hands between the two readings
 * belongs to nobody in the cgroup, or to a member that the descriptor does not mean.
 */
const signalMembers = (path: string, layout: CgroupLayout): void => {
  const pidfds = new Map<number, number>()
  try {
    for (const pid of cgroupProcesses(path, layout)) {
      const pidfd = rawSys('pidfd_open', pid, 0)
      if (pidfd >= 0) pidfds.set(pid, pidfd)
    }
    for (const pid of cgroupProcesses(path, layout)) {
      const pidfd = pidfds.get(pid)
      if (pidfd !== undefined) sendPidfdSignal(pidfd, SIGKILL)
    }
  } finally {
    for (const pidfd of pidfds.values()) closeSync(pidfd)
  }
}

/** v1: nobody can fork while all are frozen, and a frozen process dies as soon as it is thawed. */
const signalAll = (path: string, layout: CgroupLayout): void => {
  const freezer = layout.version === 2 ? undefined : layout.controllers.get('freezer')
  const state = freezer === undefined ? undefined : join(freezer, path, 'freezer.state')
  const frozen = state !== undefined && tryWrite(state, 'FROZEN')
  try {
    signalMembers(path, layout)
  } finally {
    if (frozen && state !== undefined) tryWrite(state, 'THAWED')
  }
}

const killOnce = (path: string, layout: CgroupLayout): void => {
  if (layout.version === 2) {
    const directory = listingDirectory(path, layout)
    if (directory === undefined || tryWrite(join(directory, 'cgroup.kill'), '1')) return
  }
  signalAll(path, layout)
}

/**
 * Kills every process of a cgroup and of those below it, again and again, until none is left. Returns at once when it does not
 * exist. Throws deadline-exceeded when processes are left after `timeoutMs` (10 s), failed-precondition when this process is in it.
 */
export const killCgroup = async (path: string, options: KillCgroupOptions = {}): Promise<void> => {
  const { timeoutMs = DEFAULT_TIMEOUT_MS, abort, layout = cgroupLayout() } = options
  const deadline = performance.now() + timeoutMs
  for (let pause = 1; ; pause = Math.min(pause * 2, MAX_PAUSE_MS)) {
    abort?.throwIfAborted()
    const left = cgroupProcesses(path, layout)
    if (left.length === 0) return
    if (left.includes(process.pid))
      throw new RuntimeError('failed-precondition', `cgroup "${path}" holds this very process`)
    if (performance.now() >= deadline) {
      throw new RuntimeError(
        'deadline-exceeded',
        `cgroup "${path}" still has ${left.length} processes after ${timeoutMs} ms`,
      )
    }
    killOnce(path, layout)
    await delay(pause, undefined, abort === undefined ? {} : { signal: abort })
  }
}
