/** Runs a program that starts another one and goes: what it prints goes to pipes that outlive it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { startedOn } from './affinity.ts'
import type { OutputPipe } from './output-pipe.ts'
import type { CommandExit } from './run-command.ts'
import { signalNumber } from './signals.ts'

export interface PipedCommand {
  /** The whole environment. */
  readonly env: Record<string, string>
  readonly stdout: OutputPipe
  readonly stderr: OutputPipe
  readonly started?: ((pid: number | undefined) => void) | undefined
  /** The processors on which it begins; not set: those of this process. */
  readonly cpus?: Iterable<number> | undefined
}

/**
 * In our own session: the scheduler of many hosts (autogroup) takes each new session for another competitor, which on a busy
 * machine costs a short command several milliseconds. Its standard input is /dev/null, its directory "/".
 * @returns how the program itself ended. Throws Node's error when it cannot start.
 */
export async function runWithPipes(
  path: string,
  args: readonly string[],
  { env, stdout, stderr, started, cpus }: PipedCommand,
): Promise<CommandExit> {
  const start = () => spawn(path, args, { env, cwd: '/', stdio: ['ignore', stdout.writeEnd, stderr.writeEnd] })
  const child = cpus === undefined ? start() : startedOn(cpus, start)
  stdout.closeWriteEnd()
  stderr.closeWriteEnd()
  started?.(child.pid)
  await once(child, 'exit')
  const { exitCode, signalCode } = child
  if (signalCode !== null) return { how: 'signaled', signal: signalNumber(signalCode) ?? 0 }
  return { how: 'exited', code: exitCode ?? 255 }
}
