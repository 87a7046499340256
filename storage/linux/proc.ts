/** What /proc says about processes. A process is named by pid and start time: a pid alone may be somebody else's by now. */
import { readdirSync, readlinkSync } from 'node:fs'
import { readKernelFile } from './read-bounded.ts'

export interface ProcessIdentity {
  pid: number
  /** Clock ticks after boot. */
  startTime: bigint
}

interface ProcessStat {
  state: string
  parent: number
  session: number
  threads: number
  startTime: bigint
}

const checkedPid = (pid: number): number => {
  if (!Number.isInteger(pid) || pid <= 0) throw new TypeError(`pid "${pid}" is not a positive integer`)
  return pid
}

const readStat = (pid: number): ProcessStat | undefined => {
  const text = readKernelFile(`/proc/${checkedPid(pid)}/stat`)
  if (text === undefined) return undefined
  // The command name may hold spaces and parentheses: count from the last one.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const [state, parent] = fields
  const session = Number(fields[3])
  const threads = Number(fields[17])
  const startTime = fields[19]
  if (state === undefined || parent === undefined || startTime === undefined) return undefined
  return { state, parent: Number(parent), session, threads, startTime: BigInt(startTime) }
}

// A first thread that has ended looks like a zombie while other threads of the process run on.
const isDead = ({ state, threads }: ProcessStat): boolean =>
  (state === 'Z' && threads <= 1) || state === 'X' || state === 'x'

/** The identity of a process, dead but unreaped ones included; undefined when there is none. */
export const processIdentity = (pid: number): ProcessIdentity | undefined => {
  const stat = readStat(pid)
  return stat === undefined ? undefined : { pid, startTime: stat.startTime }
}

/** Whether this very process still runs. A zombie does not. */
export const isAlive = ({ pid, startTime }: ProcessIdentity): boolean => {
  const stat = readStat(pid)
  return stat !== undefined && stat.startTime === startTime && !isDead(stat)
}

/** Whether a process exists and waits to be reaped. */
export const isZombie = (pid: number): boolean => {
  const stat = readStat(pid)
  return stat !== undefined && isDead(stat)
}

/** The parent of a process; undefined when it is gone. */
export const parentOf = (pid: number): number | undefined => readStat(pid)?.parent

/**
 * The session of a process, named by the pid that its leader has or had: no other process gets that pid while the session has members.
 * undefined when the process is gone.
 */
export const sessionOf = (pid: number): number | undefined => readStat(pid)?.session

const namesIn = (directory: string): string[] => {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

const allPids = (): number[] => namesIn('/proc').flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []))

/** The children of a process, zombies included. */
export const childrenOf = (pid: number): number[] => {
  const threads = namesIn(`/proc/${checkedPid(pid)}/task`)
  const lists = threads.map((thread) => readKernelFile(`/proc/${pid}/task/${thread}/children`, 1024 * 1024))
  const complete = lists.flatMap((list) => list ?? [])
  // The file exists only in kernels with CONFIG_PROC_CHILDREN.
  if (threads.length > 0 && complete.length === 0) return allPids().filter((candidate) => parentOf(candidate) === pid)
  return complete.flatMap((list) => list.split(' ').flatMap((word) => (word.trim() === '' ? [] : [Number(word)])))
}

/** What a process has open, as /proc names it: a path, or "pipe:[1234]". Empty when it is gone. Looks at names only, so it never hangs. */
export const openFilesOf = (pid: number): string[] => {
  const directory = `/proc/${checkedPid(pid)}/fd`
  return namesIn(directory).flatMap((fd) => {
    try {
      return [readlinkSync(`${directory}/${fd}`)]
    } catch {
      return []
    }
  })
}

/** Names this boot of the machine; start times of different boots must not be compared. */
export const bootId = (): string => readKernelFile('/proc/sys/kernel/random/boot_id')?.trim() ?? ''
