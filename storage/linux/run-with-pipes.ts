/** Runs a program that starts another one and goes: what it prints goes to pipes that outlive it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { startedOn } from './affinity.ts'
import type { CommandExit } from './run-command.ts'
import { signalNumber } from './signals.ts'

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
 * @returns how the program itself ended. Throws Node's error when it cannot start.
 */
export async function runWithPipes(
  path: string,
  args: readonly string[],
  { env, stdin, stdout, stderr, started, cpus }: PipedCommand,
): Promise<CommandExit> {
  const stdio = [stdin?.readEnd ?? 'ignore', stdout.writeEnd, stderr.writeEnd] as const
  const start = () => spawn(path, args, { env, cwd: '/', stdio: [...stdio] })
  const child = cpus === undefined ? start() : startedOn(cpus, start)
  stdin?.closeReadEnd()
  stdout.closeWriteEnd()
  stderr.closeWriteEnd()
  started?.(child.pid)
  await once(child, 'exit')
  const { exitCode, signalCode } = child
  if (signalCode !== null) return { how: 'signaled', signal: signalNumber(signalCode) ?? 0 }
  return { how: 'exited', code: exitCode ?? 255 }
}
