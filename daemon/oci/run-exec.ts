/**
 * Run a command in a container to its end. The OCI runtime only starts it and goes (`exec --detach`): then the command is a
 * child of this process, which reads its output and takes its exit. So no runtime process stays beside it, and what it leaves
 * in the background holds up nobody.
 */
import { readFileSync, unlinkSync } from 'node:fs'
import type { AdoptedChildren } from '#linux/adopted-children.ts'
import { setProcessAffinity } from '#linux/affinity.ts'
import { isErrno } from '#linux/errno.ts'
import { drainPipes, OutputPipe } from '#linux/output-pipe.ts'
import type { ChildExit } from '#linux/reaper.ts'
import type { CommandExit } from '#linux/run-command.ts'
import { runWithPipes } from '#linux/run-with-pipes.ts'
import { RuntimeError } from '#proto/errors.ts'
import { cannotRun, describeExit, sanitise } from './complaint.ts'
import { type ExecCommand, execArguments } from './exec-sync-command.ts'

export interface ExecProgram {
  readonly path: string
  readonly root: string
  /** From where commands are run in containers, when that is not `path`. */
  readonly execPath?: () => string
}

export interface ExecRequest extends ExecCommand {
  /** Bytes kept of stdout and of stderr each. */
  readonly maxOutput: number
  /**
   * Told the process whose tree the command is: the runtime, then the command itself; undefined once that has ended. As long
   * as it is told its pid cannot go to another process.
   */
  readonly root?: ((pid: number | undefined) => void) | undefined
  /** The processors on which the command runs; not set: any of the container's. */
  readonly cpus?: ReadonlySet<number> | undefined
  /** Told that the command itself has ended, before its output is read to the end. */
  readonly ended?: () => void
}

export interface ExecResult {
  readonly exit: CommandExit
  readonly stdout: Buffer
  readonly stderr: Buffer
}

/** The runtime lives for milliseconds: it needs no garbage collector, up to a limit. */
const ENVIRONMENT = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', GOGC: 'off', GOMEMLIMIT: '64MiB' }

/** @throws RuntimeError invalid-argument; failed-precondition when the command could not be started */
export async function runExec(
  program: ExecProgram,
  children: AdoptedChildren,
  request: ExecRequest,
): Promise<ExecResult> {
  const args = execArguments(program.root, request)
  const stdout = new OutputPipe(request.maxOutput)
  const stderr = new OutputPipe(request.maxOutput)
  try {
    using _ = children.expect()
    const path = program.execPath?.() ?? program.path
    const piped = { env: ENVIRONMENT, stdout, stderr, started: request.root, cpus: request.cpus }
    const runtimeExit = await runWithPipes(path, args, piped).catch((cause) => {
      throw cannotRun(program.path, cause)
    })
    request.root?.(undefined)
    // The runtime writes the file once the command runs; without it what was printed is the runtime's own.
    const pid = takePid(request.pidFile)
    if (pid === undefined) throw await failure(request.id, stderr, runtimeExit)
    request.root?.(pid)
    if (request.cpus) keepOn(pid, request.cpus)
    const exit = commandExit(await children.wait(pid))
    request.root?.(undefined)
    request.ended?.()
    await drainPipes([stdout, stderr])
    return { exit, stdout: stdout.bytes(), stderr: stderr.bytes() }
  } finally {
    request.root?.(undefined)
    stdout.close()
    stderr.close()
  }
}

/** Older kernels forget the mask when the runtime moves the command to the container's cgroup. */
function keepOn(pid: number, cpus: ReadonlySet<number>): void {
  try {
    setProcessAffinity(pid, cpus)
  } catch (error) {
    // The cpuset has just been changed: the command runs where it may.
    if (!isErrno(error, 'EINVAL')) throw error
  }
}

const commandExit = (exit: ChildExit): CommandExit =>
  exit.how === 'exited' ? { how: 'exited', code: exit.code } : { how: 'signaled', signal: exit.signal }

async function failure(id: string, stderr: OutputPipe, runtimeExit: CommandExit): Promise<RuntimeError> {
  await drainPipes([stderr])
  const why = sanitise(stderr.bytes()) || describeExit(runtimeExit)
  return new RuntimeError('failed-precondition', `Cannot run a command in container "${id}": ${why}`)
}

/** On tmpfs, where this takes microseconds: less than waking a thread for it. undefined: it was never written. */
function takePid(file: string): number | undefined {
  try {
    const pid = Number.parseInt(readFileSync(file, 'utf8'), 10)
    unlinkSync(file)
    return Number.isSafeInteger(pid) && pid > 1 ? pid : undefined
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}
