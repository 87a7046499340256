/**
 * Exec: a command in a container, connected to a client for as long as both are there. Without a terminal it is a child of the daemon
 * on pipes, as in ExecSync; with one the OCI runtime stays between the client's terminal and the command's.
 */
import { RuntimeError } from '#proto/errors.ts'
import type { ExecRequest as ExecMessage } from '#proto/generated/api.ts'
import type { DecideNeeds } from '../../container/decided-resources.ts'
import { runningContainer } from '../../container/running-container.ts'
import { checkCommand } from '../../oci/exec-command.ts'
import type { Parts } from '../../parts.ts'
import type { ExecEnd, ExecRequest, RemoteStreams } from '../session.ts'
import { checkStreams } from './check-streams.ts'
import { runInTerminal } from './run-in-terminal.ts'
import { runOnPipes } from './run-on-pipes.ts'

export type ExecNeeds = DecideNeeds & Pick<Parts, 'children' | 'containers' | 'linux' | 'log' | 'paths'>

const purpose = 'run a command in'

/**
 * What the RPC asks for (api.proto, ExecRequest).
 * @throws RuntimeError invalid-argument, not-found, failed-precondition when the container does not run
 */
export function acceptExec(needs: Pick<Parts, 'containers'>, message: ExecMessage): ExecRequest {
  const { cmd, tty, stdin, stdout, stderr } = message
  checkCommand(cmd)
  checkStreams('Exec', message)
  const { id } = runningContainer(needs, message.containerId, purpose).record
  return { kind: 'exec', containerId: id, command: cmd, tty, stdin, stdout, stderr }
}

/** See `StreamBackend.exec`. */
export async function exec(
  needs: ExecNeeds,
  request: ExecRequest,
  streams: RemoteStreams,
  signal: AbortSignal,
): Promise<ExecEnd> {
  const container = runningContainer(needs, request.containerId, purpose)
  const run = request.tty ? runInTerminal : runOnPipes
  const code = await run(needs, container, { command: request.command, streams, signal })
  if (signal.aborted) throw cutShort(container.record.id, signal)
  return { how: 'exited', code }
}

const cutShort = (id: string, { reason }: AbortSignal): RuntimeError =>
  new RuntimeError(
    'cancelled',
    `Command in container "${id}" was killed, as its client has gone or was idle too long`,
    {
      cause: reason,
    },
  )
