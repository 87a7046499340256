/**
 * Run a command in a container to its end. The OCI runtime only starts it and goes (`exec --detach`): then the command is a
 * child of this process, which reads its output and takes its exit. So no runtime process stays beside it, and what it leaves
 * in the background holds up nobody.
 */
import type { AdoptedChildren } from '#linux/adopted-children.ts'
import { drainPipes, OutputPipe } from '#linux/output-pipe.ts'
import type { ChildExit } from '#linux/reaper.ts'
import type { CommandExit } from '#linux/run-command.ts'
import { RuntimeError } from '#proto/errors.ts'
import { describeExit, sanitise } from './complaint.ts'
import type { ExecCommand } from './exec-command.ts'
import { type ExecProgram, startExec } from './start-exec.ts'

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

/** @throws RuntimeError invalid-argument; failed-precondition when the command could not be started */
export async function runExec(
  program: ExecProgram,
  children: AdoptedChildren,
  request: ExecRequest,
): Promise<ExecResult> {
  const stdout = new OutputPipe(request.maxOutput)
  const stderr = new OutputPipe(request.maxOutput)
  try {
    using _ = children.expect()
    const start = await startExec(program, request, {
      children,
      stdout,
      stderr,
      root: request.root,
      cpus: request.cpus,
    })
    if (start.how === 'refused') throw await failure(request.id, stderr, start.exit)
    const { pid } = start
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

const commandExit = (exit: ChildExit): CommandExit =>
  exit.how === 'exited' ? { how: 'exited', code: exit.code } : { how: 'signaled', signal: exit.signal }

async function failure(id: string, stderr: OutputPipe, runtimeExit: CommandExit): Promise<RuntimeError> {
  await drainPipes([stderr])
  const why = sanitise(stderr.bytes()) || describeExit(runtimeExit)
  return new RuntimeError('failed-precondition', `Cannot run a command in container "${id}": ${why}`)
}
