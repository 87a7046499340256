/** Starts a monitor that outlives the daemon, waits until it answers, and connects to it. */
import { closeSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import type { Linux } from '#linux/linux.ts'
import { makePipe } from '#linux/pipes.ts'
import { type ProcessIdentity, processIdentity } from '#linux/proc.ts'
import { announceFlag, type MonitorOptions, monitorFiles } from '#proto/conmon.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { Config } from '../config/schema.ts'
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
  readonly linux: Pick<Linux, 'writeFileAtomic' | 'createCgroup' | 'spawnProgram'>
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

/** The option for where monitors live, if that is configured. */
export const placement = ({ monitor: { cgroup } }: Pick<Config, 'monitor'>): Pick<MonitorOptions, 'monitorCgroup'> =>
  cgroup === undefined ? {} : { monitorCgroup: cgroup }

/** @throws RuntimeError internal with the monitor's own words when it cannot run, deadline-exceeded */
export async function launchMonitor(input: LaunchInput): Promise<MonitorClient> {
  const { dir, options, linux, log, signal } = input
  await linux.writeFileAtomic(join(dir, monitorFiles.options), JSON.stringify(options), { mode: 0o600 })
  if (options.monitorCgroup !== undefined) linux.createCgroup(options.monitorCgroup)
  const { monitor, ready } = await spawnMonitor(input)
  try {
    await answer(ready, dir, signal)
    return await MonitorClient.connect({
      dir,
      cookie: options.cookie,
      log,
      runtimeTimeoutMs: options.createTimeoutMs,
      ...(signal && { signal }),
    })
  } catch (error) {
    killGroup(monitor)
    throw error
  } finally {
    // Its other end is how the monitor learns that nobody will come.
    ready.destroy()
  }
}

/** With whatever it has started: it leads its own group. Once it has been reaped its pid may be another's. */
function killGroup({ pid, startTime }: ProcessIdentity): void {
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

/** Who reaps orphans reaps it. */
async function spawnMonitor({ program: { path, args }, dir, options, linux }: LaunchInput) {
  const ownLog = await open(join(dir, monitorFiles.log), 'a', 0o600)
  const pipe = makePipe()
  const ready = new Socket({ fd: pipe.read, readable: true, writable: false })
  try {
    const pid = linux.spawnProgram({
      path,
      args: [...args, dir, announceFlag],
      env: environment,
      session: true,
      stdio: ['ignore', ownLog.fd, ownLog.fd, pipe.write],
      ...(options.monitorCgroup !== undefined && { cgroup: options.monitorCgroup }),
    })
    // In this tick nobody has reaped it, not even if it has ended.
    const monitor = processIdentity(pid)
    if (monitor === undefined) throw new RuntimeError('internal', `Monitor in "${dir}" has gone at once`)
    return { monitor, ready }
  } catch (error) {
    ready.destroy()
    throw notRun(error)
  } finally {
    closeSync(pipe.write)
    await ownLog.close()
  }
}

/** The monitor's first and only byte. */
async function answer(ready: Socket, dir: string, signal?: AbortSignal): Promise<void> {
  const late = AbortSignal.timeout(readyTimeoutMs)
  const either = signal === undefined ? late : AbortSignal.any([late, signal])
  const said = new Promise<boolean>((resolve, reject) => {
    either.addEventListener('abort', () => reject(either.reason), { once: true })
    ready.once('data', () => resolve(true))
    ready.once('error', () => resolve(false))
    ready.once('close', () => resolve(false))
  })
  try {
    if (await said) return
  } catch (cause) {
    if (!late.aborted || signal?.aborted) throw cause
    throw new RuntimeError('deadline-exceeded', `Monitor in "${dir}" is not ready after ${readyTimeoutMs} ms`, {
      cause,
    })
  }
  throw new RuntimeError('internal', `Monitor in "${dir}" ended at once: ${await lastWords(dir)}`)
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
