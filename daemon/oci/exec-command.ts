/** The runtime's arguments for running one more command in a container. */
import * as z from 'zod'
import { invalid } from './spec/refuse.ts'

/**
 * The command runs as the container's own process would: same user, groups, environment, directory, capabilities and
 * confinement, which the runtime takes from the container's config.json.
 */
export interface ExecCommand {
  readonly id: string
  readonly command: readonly string[]
  /** Absolute; the runtime writes the command's pid there once it runs. Must not exist, and is removed in the end. */
  readonly pidFile: string
}

/**
 * To start it and go.
 * @throws RuntimeError invalid-argument for a command that no process could be given
 */
export const execArguments = (root: string, { id, command, pidFile }: ExecCommand): string[] => {
  checkCommand(command)
  return ['--root', root, 'exec', '--detach', '--pid-file', pidFile, id, ...command]
}

/**
 * To stay beside a command and copy between its terminal and the one that the runtime is started on.
 * @param processFile what `terminalProcess` made, as JSON
 */
export const terminalExecArguments = (
  root: string,
  { id, pidFile }: Pick<ExecCommand, 'id' | 'pidFile'>,
  processFile: string,
): string[] => ['--root', root, 'exec', '--process', processFile, '--pid-file', pidFile, id]

/** The part of a container's config.json with which each command in it begins; there is more in it than is known here. */
export const ProcessSpec = z.looseObject({ cwd: z.string(), env: z.array(z.string()).default([]) })
export type ProcessSpec = z.infer<typeof ProcessSpec>

/**
 * The container's own process but for its words and its terminal. The size is in force before the command runs, where a later one
 * would come too late for those that look once.
 */
export const terminalProcess = (
  own: ProcessSpec,
  args: readonly string[],
  consoleSize: { readonly width: number; readonly height: number },
): ProcessSpec => {
  const env = own.env.some((entry) => entry.startsWith('TERM=')) ? own.env : [...own.env, 'TERM=xterm']
  return { ...own, args, env, terminal: true, consoleSize }
}

/**
 * The runtime reads no options after the id, so that words such as "--help" belong to the command.
 * @throws RuntimeError invalid-argument
 */
export const checkCommand = (command: readonly string[]): void => {
  if (command.length === 0) throw invalid('cmd is empty')
  for (const [index, word] of command.entries()) {
    if (word.includes('\0')) throw invalid(`cmd[${index}] holds a NUL character`)
  }
}
