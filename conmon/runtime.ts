/** Runs the OCI runtime (runc, crun): create, start and delete of this one container, each with a deadline. */
import { closeSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { errnoOf, isErrno } from '#linux/errno.ts'
import { makePipe, setNonblock } from '#linux/pipes.ts'
import type { ChildExit } from '#linux/reaper.ts'
import { signalName } from '#linux/signals.ts'
import { type Program, spawnProgram } from '#linux/spawn-program.ts'
import { type MonitorOptions, monitorFiles, type RestoreOptions } from '#proto/conmon.ts'
import { Drain } from './drain.ts'
import { MonitorFailure } from './failure.ts'
import { neutralScore, type OomScore } from './oom-score.ts'
import { OpenFiles } from './open-files.ts'
import type { Reactor } from './reactor.ts'
import type { Reaper } from './reaper.ts'
import { maxComplaintBytes, runtimeFailure } from './runtime-complaint.ts'
import type { ContainerStdio } from './stdio/stdio.ts'

/** From scratch: nothing of the daemon's environment reaches a runtime or its hooks. */
const environment = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  // A runtime in Go is gone before a collection of its garbage would have been worth it.
  GOGC: 'off',
  GOMEMLIMIT: '64MiB',
}

/** Runtimes look for CRIU on their path. */
const environmentFor = (restore: RestoreOptions | undefined) =>
  restore === undefined ? environment : { ...environment, PATH: `${dirname(restore.criu)}:${environment.PATH}` }

/** Connections of the container are closed: its address is another one now. */
const restoring = ({ images, work }: RestoreOptions): string[] => {
  const where = ['--image-path', images, '--work-path', work]
  return ['restore', '--detach', ...where, '--file-locks', '--tcp-established']
}

type Descriptors = readonly [number | 'ignore', number | 'ignore', number | 'ignore']

interface RuntimeEnd {
  readonly ok: boolean
  readonly late: boolean
  readonly ending: string
}

export interface RuntimeParts {
  readonly reactor: Reactor
  readonly reaper: Reaper
  readonly oomScore: OomScore
}

export class Runtime {
  readonly #options: MonitorOptions
  readonly #dir: string
  readonly #parts: RuntimeParts
  readonly #logPath: string
  readonly openFiles: OpenFiles
  #killCreator: () => void = () => {}
  #abandoned = false

  constructor(options: MonitorOptions, dir: string, parts: RuntimeParts) {
    this.#options = options
    this.#dir = dir
    this.#parts = parts
    this.#logPath = join(dir, monitorFiles.runtimeLog)
    this.openFiles = new OpenFiles(options.openFiles)
  }

  /** Creates the container with these standard streams, or restores it. @throws MonitorFailure with the runtime's words */
  async create(stdio: ContainerStdio): Promise<void> {
    const { id, createTimeoutMs, restore } = this.#options
    const files = ['--bundle', this.#dir, '--pid-file', join(this.#dir, monitorFiles.pid)]
    const verb = restore === undefined ? ['create'] : restoring(restore)
    const command = [...verb, ...files, ...stdio.runtimeArguments, id]
    const running = this.#run(command, stdio.runtimeStdio, createTimeoutMs, (kill) => {
      this.#killCreator = kill
    })
    stdio.handOver()
    if (this.#abandoned) this.abandonCreate()
    const end = await running
    if (this.#abandoned && !end.ok)
      throw new MonitorFailure('unavailable', `Cannot create container "${id}": its monitor was told to leave`)
    this.#check(restore === undefined ? 'create' : 'restore', end, () => stdio.complaint())
  }

  /** Ends a creation that is under way or about to be; one that has just succeeded stays. */
  abandonCreate(): void {
    this.#abandoned = true
    this.#killCreator()
  }

  /** @throws MonitorFailure with the runtime's words */
  async start(): Promise<void> {
    const { id, createTimeoutMs } = this.#options
    const complaints = new Complaints(this.#parts.reactor)
    try {
      const running = this.#run(['start', id], ['ignore', complaints.write, complaints.write], createTimeoutMs)
      complaints.handOver()
      this.#check('start', await running, () => complaints.read())
    } finally {
      complaints.close()
    }
  }

  /** Removes whatever there is of the container; says whether the runtime was content. */
  async deleteForced(timeoutMs: number): Promise<boolean> {
    const end = await this.#run(['delete', '--force', this.#options.id], ['ignore', 'ignore', 'ignore'], timeoutMs)
    return end.ok
  }

  /** @param born is given what kills the runtime with all of its group */
  async #run(
    command: readonly string[],
    stdio: Descriptors,
    timeoutMs: number,
    born: (kill: () => void) => void = () => {},
  ): Promise<RuntimeEnd> {
    const { path, root, systemdCgroup } = this.#options.runtime
    const global = [
      '--root',
      root,
      '--log',
      this.#logPath,
      '--log-format',
      'json',
      ...(systemdCgroup ? ['--systemd-cgroup'] : []),
    ]
    rmSync(this.#logPath, { force: true })
    const { oomScore, reaper } = this.#parts
    const args = [...global, ...command]
    const openFiles = this.openFiles.forChild
    const env = environmentFor(this.#options.restore)
    const pid = start({ path, args, env, stdio, openFiles, neutralOomScore: oomScore.own < neutralScore })
    if (typeof pid !== 'number') return pid
    const { kill, buried } = killerOf(pid)
    born(kill)
    return ending(reaper.wait(pid, buried), kill, timeoutMs)
  }

  #check(verb: string, end: RuntimeEnd, complaint: () => Buffer): void {
    if (end.ok) return
    const { id } = this.#options
    const what = `Cannot ${verb} container "${id}"`
    if (end.late) throw new MonitorFailure('deadline-exceeded', `${what}: the runtime ${end.ending}`)
    const { kind, message } = runtimeFailure(what, this.#readLog(), complaint(), `the runtime ${end.ending}`)
    throw new MonitorFailure(kind, message)
  }

  #readLog(): Buffer {
    try {
      return readFileSync(this.#logPath).subarray(-64 * 1024)
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return Buffer.alloc(0)
      throw error
    }
  }
}

/** The pid, or how it came to nothing. */
function start(program: Program): number | RuntimeEnd {
  try {
    return spawnProgram(program)
  } catch (error) {
    if (!(error instanceof Error) || errnoOf(error) === undefined) throw error
    return { ok: false, late: false, ending: `could not be run: ${error.message}` }
  }
}

/** How the runtime ended. After the deadline it is killed with its whole process group. */
async function ending(ended: Promise<ChildExit | undefined>, kill: () => void, timeoutMs: number): Promise<RuntimeEnd> {
  let late = false
  const timer = setTimeout(() => {
    late = true
    kill()
  }, timeoutMs)
  const exit = await ended
  clearTimeout(timer)
  const ok = exit?.how === 'exited' && exit.code === 0
  return { ok, late, ending: late ? `did not finish in ${timeoutMs} ms` : wordsFor(exit) }
}

function wordsFor(exit: ChildExit | undefined): string {
  if (exit === undefined) return 'ended, and nobody knows how'
  if (exit.how === 'exited') return `ended with exit code ${exit.code}`
  return `was ended by ${signalName(exit.signal)}`
}

/** Kills a child of ours with its process group, as long as nobody has waited for it: then its pid may be another's. */
function killerOf(pid: number): { kill: () => void; buried: () => void } {
  let isOurs = true
  return {
    kill: () => isOurs && killGroup(pid),
    buried: () => {
      isOurs = false
    },
  }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    if (!isErrno(error, 'ESRCH')) throw error
  }
}

/** A pipe for what a runtime says. */
class Complaints {
  readonly write: number
  readonly #read: number
  readonly #drain: Drain

  constructor(reactor: Reactor) {
    const pipe = makePipe()
    setNonblock(pipe.read, true)
    this.write = pipe.write
    this.#read = pipe.read
    this.#drain = new Drain(reactor, pipe.read, maxComplaintBytes)
  }

  handOver(): void {
    closeSync(this.write)
  }

  read(): Buffer {
    return this.#drain.read()
  }

  close(): void {
    this.#drain.end()
    closeSync(this.#read)
  }
}
