/** The runtime's arguments for running one more command in a container. */
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
 * To stay beside it and copy between its terminal and the one it is started on.
 * @param env "NAME=value" on top of the container's own
 * @throws RuntimeError invalid-argument
 */
export const terminalExecArguments = (
  root: string,
  { id, command, pidFile }: ExecCommand,
  env: readonly string[],
): string[] => {
  checkCommand(command)
  const variables = env.flatMap((variable) => ['--env', variable])
  return ['--root', root, 'exec', '--tty', ...variables, '--pid-file', pidFile, id, ...command]
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
