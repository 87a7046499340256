/**
 * Attach: a client at the streams of the container's own process, by way of its monitor. It sees what is printed from now on, may come
 * and go as it likes, and stops nothing by not reading: the monitor drops it.
 */
import { RuntimeError } from '#proto/errors.ts'
import type { AttachRequest as AttachMessage } from '#proto/generated/api.ts'
import type { Container } from '../../container/container.ts'
import { runningContainer } from '../../container/running-container.ts'
import type { AttachEnd, AttachStream, MonitorClient } from '../../monitor/monitor-client.ts'
import type { Parts } from '../../parts.ts'
import type { AttachRequest, RemoteStreams } from '../session.ts'
import { checkStreams } from './check-streams.ts'
import { forwardInput, Output } from './forward.ts'

export type AttachNeeds = Pick<Parts, 'containers' | 'log' | 'watches'>

/**
 * What the RPC asks for (api.proto, AttachRequest).
 * @throws RuntimeError invalid-argument, not-found, failed-precondition when the container does not run
 */
export function acceptAttach(needs: Pick<Parts, 'containers'>, message: AttachMessage): AttachRequest {
  const { tty, stdin, stdout, stderr } = message
  checkStreams('Attach', message)
  const { id, config } = runningContainer(needs, message.containerId, 'attach to').record
  if (tty && !config.tty)
    throw new RuntimeError('invalid-argument', `Attach: tty is asked for, but container "${id}" has no terminal`)
  if (stdin && !config.stdin)
    throw new RuntimeError('invalid-argument', `Attach: stdin is asked for, but container "${id}" has none`)
  return { kind: 'attach', containerId: id, tty, stdin, stdout, stderr }
}

/** See `StreamBackend.attach`. */
export async function attach(
  needs: AttachNeeds,
  request: AttachRequest,
  streams: RemoteStreams,
  signal: AbortSignal,
): Promise<void> {
  const container = runningContainer(needs, request.containerId, 'attach to')
  const client = needs.watches.client(container.record.id)
  if (client === undefined)
    throw new RuntimeError('unavailable', `The monitor of container "${container.record.id}" does not answer`)
  const { stdin, stdout, stderr } = request
  const attached = await client.attach({ stdin, stdout, stderr }, signal)
  const detach = () => attached.close()
  const over = new AbortController()
  signal.addEventListener('abort', detach, { once: true })
  try {
    signal.throwIfAborted()
    if (container.record.config.tty) void followSizes(streams.sizes, client, over.signal)
    check(container, await connect(attached, streams))
  } finally {
    over.abort()
    signal.removeEventListener('abort', detach)
    detach()
  }
}

/** Until the attachment's end, and until the client has been given all that came before. */
async function connect(attached: AttachStream, streams: RemoteStreams): Promise<AttachEnd> {
  const outputs = [new Output(attached.stdout, streams.stdout), new Output(attached.stderr, streams.stderr)]
  if (streams.stdin && attached.stdin) forwardInput(streams.stdin, attached.stdin, { isTerminal: false })
  const end = await attached.ended
  if (end.why !== 'closed') await Promise.all(outputs.map(({ ended }) => ended))
  return end
}

/** @throws RuntimeError for an end that the client is to be told about */
function check({ record: { id } }: Container, end: AttachEnd): void {
  switch (end.why) {
    case 'exited':
    case 'closed':
      return
    case 'dropped':
      throw new RuntimeError('resource-exhausted', end.message)
    case 'lost':
      throw new RuntimeError('unavailable', `The monitor of container "${id}" has gone`)
  }
}

/** Never rejects: a container that has just ended takes no sizes. */
async function followSizes(sizes: RemoteStreams['sizes'], client: MonitorClient, over: AbortSignal): Promise<void> {
  try {
    for await (const size of sizes) {
      if (over.aborted) return
      await client.resize(size)
    }
  } catch {
    // The client or the container has gone, which is told otherwise.
  }
}
