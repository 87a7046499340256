/** One container under a real monitor, for tests. Disposing of it leaves nothing behind, whatever the test has done. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { linux } from '#linux/linux.ts'
import { type MonitorOptions, monitorFiles } from '#proto/conmon.ts'
import { silentLog } from '#proto/log.ts'
import { launchMonitor } from '../launch-monitor.ts'
import { MonitorClient } from '../monitor-client.ts'
import type { SpareMonitors } from '../spare-monitors.ts'
import type { MonitorProgram } from '../spawn-monitor.ts'
import { type BundleInput, makeBundle } from './bundle.ts'

/** A monitor's program with a runtime: the same tests run with several. */
export interface Rig {
  readonly name: string
  readonly program: MonitorProgram
  readonly runtimePath: string
  /** Whether the runtime contains anything, and has terminals. */
  readonly real: boolean
}

export type MonitoredInput = Partial<Omit<BundleInput, 'args' | 'cgroupsPath'>> &
  Partial<MonitorOptions> & { readonly command: readonly string[] | string }

export interface LogLine {
  readonly stream: string
  readonly tag: string
  readonly text: string
}

const recordPattern = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) ([FP]) (.*)$/s

export class Monitored {
  readonly rig: Rig
  readonly id: string
  readonly dir: string
  readonly logPath: string
  readonly options: MonitorOptions

  constructor(
    rig: Rig,
    {
      command,
      terminal = false,
      user = 0,
      hostPidNamespace = false,
      memoryBytes,
      longName = false,
      ...options
    }: MonitoredInput,
  ) {
    this.rig = rig
    const cgroup = `/cricket-monitor-test/${process.pid}-${Math.random().toString(16).slice(2)}`
    const args = typeof command === 'string' ? ['/bin/busybox', 'sh', '-c', command] : command
    this.dir = makeBundle({
      args,
      terminal,
      user,
      hostPidNamespace,
      longName,
      cgroupsPath: cgroup,
      ...(memoryBytes !== undefined && { memoryBytes }),
    })
    this.id = `test-${cgroup.slice(cgroup.lastIndexOf('/') + 1)}`
    this.logPath = join(this.dir, 'log')
    this.options = {
      id: this.id,
      cookie: 'a cookie',
      runtime: { path: rig.runtimePath, root: join(this.dir, 'runtime'), systemdCgroup: false },
      terminal,
      stdin: false,
      stdinOnce: false,
      logPath: this.logPath,
      cgroupPath: cgroup,
      sharedPidNamespace: hostPidNamespace,
      createTimeoutMs: 20_000,
      ...options,
    }
  }

  launch(spares?: SpareMonitors): Promise<MonitorClient> {
    const { dir, options } = this
    return launchMonitor({
      program: this.rig.program,
      dir,
      options,
      linux,
      log: silentLog,
      ...(spares && { spares }),
    })
  }

  async start(): Promise<MonitorClient> {
    const client = await this.launch()
    await client.create()
    await client.start()
    return client
  }

  connect(cookie = this.options.cookie): Promise<MonitorClient> {
    return MonitorClient.connect({ dir: this.dir, cookie, log: silentLog })
  }

  /** The log's bytes, of rotated files too when given. */
  log(path = this.logPath): Buffer {
    return existsSync(path) ? readFileSync(path) : Buffer.alloc(0)
  }

  lines(path = this.logPath): LogLine[] {
    return parseLog(this.log(path))
  }

  /** What the container wrote to a stream, put together again. */
  output(stream: string, ...paths: string[]): Buffer {
    const from = paths.length === 0 ? [this.logPath] : paths
    const lines = from.flatMap((path) => this.lines(path)).filter((line) => line.stream === stream)
    return Buffer.from(lines.map(({ tag, text }) => (tag === 'F' ? `${text}\n` : text)).join(''), 'latin1')
  }

  /** What the monitor itself had to say. */
  report(): string {
    return this.log(join(this.dir, monitorFiles.log)).toString()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#deleteContainer()
    await linux.killCgroup(this.options.cgroupPath)
    for (const pid of monitorsOf(this.dir)) {
      const identity = linux.processIdentity(pid)
      await eventually(() => identity === undefined || !linux.isAlive(identity), 3000)
      if (identity !== undefined) linux.signalProcess(identity, 9)
    }
    await linux.removeCgroup(this.options.cgroupPath)
    rmSync(this.dir, { recursive: true, force: true })
  }

  #deleteContainer(): void {
    rmSync(join(this.options.runtime.root, 'faults.json'), { force: true })
    const args = ['--root', this.options.runtime.root, 'delete', '--force', this.id]
    try {
      execFileSync(this.rig.runtimePath, args, { stdio: 'ignore' })
    } catch {
      // It never was, or is gone.
    }
  }
}

/** Lines of a log file; throws when one is not a record. Text is latin1, so that every byte is one character. */
export function parseLog(bytes: Buffer): LogLine[] {
  const text = bytes.toString('latin1')
  if (text !== '' && !text.endsWith('\n')) throw new Error('log ends within a record')
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const [, stream, tag, content] = recordPattern.exec(line) ?? []
      if (stream === undefined || tag === undefined || content === undefined) throw new Error(`not a record: ${line}`)
      return { stream, tag, text: content }
    })
}

/** The monitors that run in a state directory. */
export function monitorsOf(dir: string): number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return []
    try {
      return readFileSync(`/proc/${name}/cmdline`, 'latin1').split('\0').includes(dir) ? [Number(name)] : []
    } catch {
      return []
    }
  })
}

/** Waits until it is so; says whether it came to that. */
export async function eventually(isSo: () => boolean | Promise<boolean>, timeoutMs = 60_000): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  while (!(await isSo())) {
    if (performance.now() > deadline) return false
    await delay(20)
  }
  return true
}
