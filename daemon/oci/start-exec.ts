/** Has the OCI runtime start a command in a container and go: the command is a child of this process then. */

import type { AdoptedChildren } from '#linux/adopted-children.ts'
import { setProcessAffinity } from '#linux/affinity.ts'
import { isErrno } from '#linux/errno.ts'
import type { CommandExit } from '#linux/run-command.ts'
import { type InputEnd, type OutputEnd, runWithPipes } from '#linux/run-with-pipes.ts'
import { cannotRun } from './complaint.ts'
import { type ExecCommand, execArguments } from './exec-command.ts'
import { takePid } from './pid-file.ts'

export interface ExecProgram {
  readonly path: string
  readonly root: string
  /** From where commands are run in containers, when that is not `path`. */
  readonly execPath?: () => string
}

export interface ExecPipes {
  /** Who waits for the runtime. */
  readonly children: AdoptedChildren
  /** /dev/null when not given. */
  readonly stdin?: InputEnd | undefined
  readonly stdout: OutputEnd
  /** Of the runtime as well: it says here why it refuses. */
  readonly stderr: OutputEnd
  /**
   * Told the process whose tree the command is: the runtime, then the command itself; undefined while there is none. As long
   * as it is told its pid cannot go to another process.
   */
  readonly root?: ((pid: number | undefined) => void) | undefined
  /** The processors on which the command runs; not set: any of the container's. */
  readonly cpus?: ReadonlySet<number> | undefined
}

export type ExecStart =
  | { readonly how: 'started'; readonly pid: number }
  | { readonly how: 'refused'; readonly exit: CommandExit }

/** The runtime lives for milliseconds: it needs no garbage collector, up to a limit. */
const ENVIRONMENT = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', GOGC: 'off', GOMEMLIMIT: '64MiB' }

/** Where the runtime is executed from. */
export const execPath = (program: ExecProgram): string => program.execPath?.() ?? program.path

/**
 * The caller expects adopted children (`AdoptedChildren.expect`) from before this call until it waits for the command.
 * @throws RuntimeError invalid-argument; failed-precondition when there is no such runtime
 */
export async function startExec(program: ExecProgram, command: ExecCommand, pipes: ExecPipes): Promise<ExecStart> {
  const args = execArguments(program.root, command)
  const { children, stdin, stdout, stderr, root, cpus } = pipes
  const piped = { children, env: ENVIRONMENT, stdin, stdout, stderr, started: root, cpus }
  const exit = await runWithPipes(execPath(program), args, piped).catch((cause) => {
    throw cannotRun(program.path, cause)
  })
  root?.(undefined)
  // The runtime writes the file once the command runs; without it what was printed is the runtime's own.
  const pid = takePid(command.pidFile)
  if (pid === undefined) return { how: 'refused', exit }
  root?.(pid)
  if (cpus) keepOn(pid, cpus)
  return { how: 'started', pid }
}

/** Older kernels forget the mask when the runtime moves the command to the container's cgroup. */
export function keepOn(pid: number, cpus: ReadonlySet<number>): void {
  try {
    setProcessAffinity(pid, cpus)
  } catch (error) {
    // The cpuset has just been changed: the command runs where it may.
    if (!isErrno(error, 'EINVAL')) throw error
  }
}
