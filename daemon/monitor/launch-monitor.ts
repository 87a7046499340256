/** Starts a monitor that outlives the daemon, waits until it answers, and connects to it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { isErrno } from '#linux/errno.ts'
import type { Linux } from '#linux/linux.ts'
import { announceFlag, type MonitorOptions, monitorFiles, readyDescriptor } from '#proto/conmon.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { MonitorClient } from './monitor-client.ts'

export type { MonitorOptions } from '#proto/conmon.ts'

/** What to execute: the compiled monitor, or Node with the monitor's bundle as first argument. */
export interface MonitorProgram {
  readonly path: string
  readonly args: readonly string[]
}

export interface LaunchInput {
  readonly program: MonitorProgram
  /** The container's state directory, mode 0700; the bundle need not be in it yet. */
  readonly dir: string
  readonly options: MonitorOptions
  readonly linux: Pick<Linux, 'writeFileAtomic' | 'createCgroup' | 'joinCgroup'>
  readonly log: Log
  readonly signal?: AbortSignal
}

const readyTimeoutMs = 20_000
const maxLogBytes = 4096

/**
 * From scratch. One thread of the pool waits for the container all its life, one is left for everything else. Compiling
 * JavaScript to machine code would cost each monitor 1.6 MB and gain nothing: the work is done in the kernel and in native calls.
 * Bun's timer for garbage would wake each monitor every second for a millisecond (docs/decisions/0006).
 */
const environment = { UV_THREADPOOL_SIZE: '2', BUN_JSC_useJIT: '0', BUN_GC_TIMER_DISABLE: '1' }

/** @throws RuntimeError internal with the monitor's own words when it cannot run, deadline-exceeded */
export async function launchMonitor({
  program,
  dir,
  options,
  linux,
  log,
  signal,
}: LaunchInput): Promise<MonitorClient> {
  await linux.writeFileAtomic(join(dir, monitorFiles.options), JSON.stringify(options), { mode: 0o600 })
  if (options.monitorCgroup !== undefined) linux.createCgroup(options.monitorCgroup)
  const child = await spawnMonitor(program, dir, (pid) => {
    // In the tick of its birth: it has loaded next to nothing, and starts nothing itself before it is asked to.
    if (options.monitorCgroup !== undefined) linux.joinCgroup(options.monitorCgroup, pid)
  })
  try {
    await answer(child, dir, signal)
    return await MonitorClient.connect({
      dir,
      cookie: options.cookie,
      log,
      runtimeTimeoutMs: options.createTimeoutMs,
      ...(signal && { signal }),
    })
  } catch (error) {
    killGroup(child)
    throw error
  } finally {
    // Its other end is how the monitor learns that nobody will come.
    readyPipe(child)?.destroy()
  }
}

/** With whatever it has started: it leads its own group. Not to be done once it has been reaped, as its pid may be another's. */
function killGroup({ pid, exitCode, signalCode }: ChildProcess): void {
  if (pid === undefined || exitCode !== null || signalCode !== null) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    if (!isErrno(error, 'ESRCH')) throw error
  }
}

/** What the host is short of keeps its code, so that the caller hears that it may come again. */
async function notRun(child: ChildProcess): Promise<unknown> {
  const [cause]: unknown[] = await once(child, 'error')
  if (isErrno(cause, 'EAGAIN', 'ENOMEM', 'EMFILE', 'ENFILE')) return cause
  return new RuntimeError('internal', `Cannot run the monitor: ${messageOf(cause)}`, { cause })
}

async function spawnMonitor(
  { path, args }: MonitorProgram,
  dir: string,
  born: (pid: number) => void,
): Promise<ChildProcess> {
  const ownLog = await open(join(dir, monitorFiles.log), 'a', 0o600)
  try {
    const stdio = ['ignore', ownLog.fd, ownLog.fd, 'pipe'] satisfies [...unknown[], 'pipe'] & { length: 4 }
    const child = spawn(path, [...args, dir, announceFlag], { stdio, cwd: '/', env: environment, detached: true })
    child.unref()
    // Listened for in this tick: nobody there to hear an error ends the daemon.
    if (child.pid === undefined) throw await notRun(child)
    try {
      born(child.pid)
    } catch (error) {
      child.kill('SIGKILL')
      throw error
    }
    return child
  } finally {
    await ownLog.close()
  }
}

/** The monitor's first and only byte. */
async function answer(child: ChildProcess, dir: string, signal?: AbortSignal): Promise<void> {
  const late = AbortSignal.timeout(readyTimeoutMs)
  const either = signal === undefined ? late : AbortSignal.any([late, signal])
  const ready = new Promise<boolean>((resolve, reject) => {
    child.once('error', (cause) =>
      reject(new RuntimeError('internal', `Cannot run the monitor: ${cause.message}`, { cause })),
    )
    either.addEventListener('abort', () => reject(either.reason), { once: true })
    const pipe = readyPipe(child)
    pipe?.once('data', () => resolve(true))
    pipe?.once('error', () => resolve(false))
    pipe?.once('close', () => resolve(false))
  })
  try {
    if (await ready) return
  } catch (cause) {
    if (!late.aborted || signal?.aborted) throw cause
    throw new RuntimeError('deadline-exceeded', `Monitor in "${dir}" is not ready after ${readyTimeoutMs} ms`, {
      cause,
    })
  }
  throw new RuntimeError('internal', `Monitor in "${dir}" ended at once: ${await lastWords(dir)}`)
}

function readyPipe(child: ChildProcess): Readable | undefined {
  const pipe = child.stdio[readyDescriptor]
  return pipe instanceof Readable ? pipe : undefined
}

async function lastWords(dir: string): Promise<string> {
  const file = await open(join(dir, monitorFiles.log), 'r')
  try {
    const { size } = await file.stat()
    const { buffer, bytesRead } = await file.read(
      Buffer.alloc(maxLogBytes),
      0,
      maxLogBytes,
      Math.max(0, size - maxLogBytes),
    )
    return buffer.subarray(0, bytesRead).toString().trim()
  } finally {
    await file.close()
  }
}
