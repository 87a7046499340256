/** Runs a program that starts another one and goes: what it prints goes to pipes that outlive it. */
import type { AdoptedChildren } from './adopted-children.ts'
import { startedOn } from './affinity.ts'
import type { CommandExit } from './run-command.ts'
import { spawnProgram } from './spawn-program.ts'

/** The write end of a pipe that somebody reads. */
export interface OutputEnd {
  readonly writeEnd: number
  closeWriteEnd(): void
}

/** The read end of a pipe that somebody writes. */
export interface InputEnd {
  readonly readEnd: number
  closeReadEnd(): void
}

export interface PipedCommand {
  /** Who waits for the program, as for what it leaves. */
  readonly children: AdoptedChildren
  /** The whole environment. */
  readonly env: Record<string, string>
  /** /dev/null when not given. */
  readonly stdin?: InputEnd | undefined
  readonly stdout: OutputEnd
  readonly stderr: OutputEnd
  readonly started?: ((pid: number | undefined) => void) | undefined
  /** The processors on which it begins; not set: those of this process. */
  readonly cpus?: Iterable<number> | undefined
}

/**
 * In our own session: the scheduler of many hosts (autogroup) takes each new session for another competitor, which on a busy
 * machine costs a short command several milliseconds. Its directory is "/".
 * @returns how the program itself ended. Throws LinuxError when it cannot start.
 */
export async function runWithPipes(
  path: string,
  args: readonly string[],
  { children, env, stdin, stdout, stderr, started, cpus }: PipedCommand,
): Promise<CommandExit> {
  using _ = children.expect()
  const stdio = [stdin?.readEnd ?? 'ignore', stdout.writeEnd, stderr.writeEnd] as const
  const start = () => spawnProgram({ path, args, env, stdio })
  const pid = (() => {
    try {
      return cpus === undefined ? start() : startedOn(cpus, start)
    } finally {
      stdin?.closeReadEnd()
      stdout.closeWriteEnd()
      stderr.closeWriteEnd()
    }
  })()
  started?.(pid)
  const exit = await children.wait(pid)
  return exit.how === 'exited' ? { how: 'exited', code: exit.code } : { how: 'signaled', signal: exit.signal }
}
