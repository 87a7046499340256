/** On which processors a thread may run: sched_setaffinity(2), and children that begin with a mask of their own. */
import { readdirSync } from 'node:fs'
import { isErrno } from './errno.ts'
import { rawSys, sys, sysError } from './sys.ts'

/** As many as any kernel is built for, in bytes of a mask. */
const MASK_BYTES = 1024

const maskOf = (cpus: Iterable<number>): Buffer => {
  const mask = Buffer.alloc(MASK_BYTES)
  for (const cpu of cpus) mask.writeUInt8(mask.readUInt8(cpu >> 3) | (1 << (cpu & 7)), cpu >> 3)
  return mask
}

/** The processors of a thread; 0 is the calling one. */
export const affinityOf = (thread: number): Set<number> => {
  const mask = Buffer.alloc(MASK_BYTES)
  sys('sched_getaffinity', thread, mask.length, mask)
  const cpus = new Set<number>()
  for (const [index, byte] of mask.entries())
    for (let bit = 0; bit < 8; bit++) if (byte & (1 << bit)) cpus.add(index * 8 + bit)
  return cpus
}

const setThreadAffinity = (thread: number, cpus: Iterable<number>): void => {
  const mask = maskOf(cpus)
  const result = rawSys('sched_setaffinity', thread, mask.length, mask)
  if (result < 0) throw sysError(result, 'sched_setaffinity')
}

/** All threads of a process. One that has ended meanwhile counts as done. Throws EINVAL when its cpuset has none of them. */
export const setProcessAffinity = (pid: number, cpus: Iterable<number>): void => {
  const wanted = [...cpus]
  for (const thread of threadsOf(pid)) {
    try {
      setThreadAffinity(thread, wanted)
    } catch (error) {
      if (!isErrno(error, 'ESRCH')) throw error
    }
  }
}

const threadsOf = (pid: number): number[] => {
  try {
    return readdirSync(`/proc/${pid}/task`).map(Number)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return []
    throw error
  }
}

/**
 * Runs `start` with this thread on these processors: a child that it makes has them from its first instruction. Where this
 * process may not run on them, `start` runs as it is.
 * @param start must not wait: this thread is everybody's
 */
export const startedOn = <T>(cpus: Iterable<number>, start: () => T): T => {
  const before = affinityOf(0)
  try {
    setThreadAffinity(0, cpus)
  } catch (error) {
    if (!isErrno(error, 'EINVAL')) throw error
    return start()
  }
  try {
    return start()
  } finally {
    setThreadAffinity(0, before)
  }
}
