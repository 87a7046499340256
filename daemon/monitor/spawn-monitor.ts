/** Starts the monitor's program, which then belongs to nobody but itself; and ends one that has failed. */
import { closeSync } from 'node:fs'
import { Socket } from 'node:net'
import { isErrno } from '#linux/errno.ts'
import type { Linux } from '#linux/linux.ts'
import { makePipe } from '#linux/pipes.ts'
import { type ProcessIdentity, processIdentity } from '#linux/proc.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'

/** What to execute: the compiled monitor, or Node with the monitor's bundle as first argument. */
export interface MonitorProgram {
  readonly path: string
  readonly args: readonly string[]
}

export interface SpawnInput {
  readonly program: MonitorProgram
  readonly linux: Pick<Linux, 'createCgroup' | 'spawnProgram'>
  /** The cgroup it is born in, made when missing. */
  readonly cgroup?: string
}

/** A monitor that has been started. */
export interface Spawned {
  readonly monitor: ProcessIdentity
  /** Has its one byte when it can be spoken to. Our end of the pipe is how it learns that nobody will come. */
  readonly ready: Socket
}

/**
 * From scratch. One thread of the pool waits for the container all its life, one is left for everything else. Compiling
 * JavaScript to machine code would cost each monitor 1.6 MB and gain nothing: the work is done in the kernel and in native calls.
 * Bun's timer for garbage would wake each monitor every second for a millisecond (docs/decisions/0006).
 */
const environment = { UV_THREADPOOL_SIZE: '2', BUN_JSC_useJIT: '0', BUN_GC_TIMER_DISABLE: '1' }

/**
 * Who reaps orphans reaps it.
 * @param words where its own words go
 * @param more further descriptors, from 4 on
 */
export function spawnMonitor(
  { program: { path, args }, linux, cgroup }: SpawnInput,
  own: readonly string[],
  words: number | 'ignore',
  more: readonly number[] = [],
): Spawned {
  if (cgroup !== undefined) linux.createCgroup(cgroup)
  const pipe = makePipe()
  const ready = new Socket({ fd: pipe.read, readable: true, writable: false })
  try {
    const pid = linux.spawnProgram({
      path,
      args: [...args, ...own],
      env: environment,
      session: true,
      stdio: ['ignore', words, words, pipe.write, ...more],
      ...(cgroup !== undefined && { cgroup }),
    })
    // In this tick nobody has reaped it, not even if it has ended.
    const monitor = processIdentity(pid)
    if (monitor === undefined) throw new RuntimeError('internal', 'The monitor has gone at once')
    return { monitor, ready }
  } catch (error) {
    ready.destroy()
    throw notRun(error)
  } finally {
    closeSync(pipe.write)
  }
}

/** With whatever it has started: it leads its own group. Once it has been reaped its pid may be another's. */
export function killGroup({ pid, startTime }: ProcessIdentity): void {
  if (processIdentity(pid)?.startTime !== startTime) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    if (!isErrno(error, 'ESRCH')) throw error
  }
}

/** What the host is short of keeps its code, so that the caller hears that it may come again. */
function notRun(cause: unknown): unknown {
  if (isErrno(cause, 'EAGAIN', 'ENOMEM', 'EMFILE', 'ENFILE')) return cause
  return new RuntimeError('internal', `Cannot run the monitor: ${messageOf(cause)}`, { cause })
}
