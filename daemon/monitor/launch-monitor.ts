/** Starts a monitor that outlives the daemon, waits until it answers, and connects to it. */
import { open, rm } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import type { Linux } from '#linux/linux.ts'
import { announceFlag, type MonitorOptions, monitorFiles } from '#proto/conmon.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { Config } from '../config/schema.ts'
import { MonitorClient } from './monitor-client.ts'
import type { SpareMonitors } from './spare-monitors.ts'
import { killGroup, type MonitorProgram, type Spawned, spawnMonitor } from './spawn-monitor.ts'

export type { MonitorOptions } from '#proto/conmon.ts'

export interface LaunchInput {
  readonly program: MonitorProgram
  /** The container's state directory, mode 0700; the bundle need not be in it yet. */
  readonly dir: string
  readonly options: MonitorOptions
  readonly linux: Pick<Linux, 'writeFileAtomic' | 'createCgroup' | 'spawnProgram'>
  readonly log: Log
  /** Monitors that wait for a container; without one, or when it fails, one is launched. */
  readonly spares?: SpareMonitors
  readonly signal?: AbortSignal
}

const readyTimeoutMs = 20_000
/** One that was started in advance has little left to do. */
const adoptedTimeoutMs = 3000
const maxLogBytes = 4096

/** The option for where monitors live, if that is configured. */
export const placement = ({ monitor: { cgroup } }: Pick<Config, 'monitor'>): Pick<MonitorOptions, 'monitorCgroup'> =>
  cgroup === undefined ? {} : { monitorCgroup: cgroup }

/** @throws RuntimeError internal with the monitor's own words when it cannot run, deadline-exceeded */
export async function launchMonitor(input: LaunchInput): Promise<MonitorClient> {
  const { dir, options, linux, log, spares, signal } = input
  await linux.writeFileAtomic(join(dir, monitorFiles.options), JSON.stringify(options), { mode: 0o600 })
  const spare = spares?.adopt(dir)
  if (spare !== undefined) {
    try {
      return await meet(input, spare, adoptedTimeoutMs)
    } catch (error) {
      if (signal?.aborted === true) throw error
      log.warn('A spare monitor was of no use; launching one', { pid: spare.monitor.pid, why: messageOf(error) })
      await rm(join(dir, monitorFiles.socket), { force: true })
    }
  }
  return meet(input, await spawnIn(input))
}

async function meet(
  { dir, options, log, signal }: LaunchInput,
  { monitor, ready }: Spawned,
  timeoutMs = readyTimeoutMs,
): Promise<MonitorClient> {
  try {
    await answer(ready, dir, timeoutMs, signal)
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

async function spawnIn({ program, dir, options: { monitorCgroup }, linux }: LaunchInput): Promise<Spawned> {
  const ownLog = await open(join(dir, monitorFiles.log), 'a', 0o600)
  try {
    const where = { program, linux, ...(monitorCgroup !== undefined && { cgroup: monitorCgroup }) }
    return spawnMonitor(where, [dir, announceFlag], ownLog.fd)
  } finally {
    await ownLog.close()
  }
}

/** The monitor's first and only byte. */
async function answer(ready: Socket, dir: string, timeoutMs: number, signal?: AbortSignal): Promise<void> {
  const late = AbortSignal.timeout(timeoutMs)
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
    throw new RuntimeError('deadline-exceeded', `Monitor in "${dir}" is not ready after ${timeoutMs} ms`, {
      cause,
    })
  }
  throw new RuntimeError('internal', `Monitor in "${dir}" ended at once: ${await lastWords(dir)}`)
}

async function lastWords(dir: string): Promise<string> {
  const file = await open(join(dir, monitorFiles.log), 'a+', 0o600)
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
