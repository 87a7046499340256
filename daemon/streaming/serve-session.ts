/** An admitted request from its upgrade to its end, by transport and kind. */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Admission } from './admit.ts'
import type { Session } from './live-sessions.ts'
import type { StreamBackend, StreamRequest } from './session.ts'
import { COMMAND_VERSIONS, serveSpdyCommand } from './spdy/serve-command.ts'
import { serveSpdyPortForward } from './spdy/serve-port-forward.ts'
import { serveWebSocket } from './websocket/serve.ts'

/** What is left of an HTTP request that asked for an upgrade. */
export interface Upgrade {
  request: IncomingMessage
  socket: Duplex
  /** What the client sent behind the request. */
  head: Buffer
}

export interface SessionOptions {
  backend: StreamBackend
  session: Session
  creationMs: number
}

const switchToSpdy = (socket: Duplex, protocol: string): void => {
  const lines = ['HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', 'Upgrade: SPDY/3.1']
  socket.write([...lines, `X-Stream-Protocol-Version: ${protocol}`, '', ''].join('\r\n'))
}

/** Resolves when the session is over. Never rejects. */
export const serveSession = async (
  asked: StreamRequest,
  { transport, protocol }: Admission,
  upgrade: Upgrade,
  options: SessionOptions,
): Promise<unknown> => {
  if (transport === 'websocket') return serveWebSocket(asked, upgrade, { ...options, subprotocol: protocol })
  const { socket, head } = upgrade
  switchToSpdy(socket, protocol)
  if (asked.kind === 'port-forward') return serveSpdyPortForward(socket, head, asked, options)
  const version = COMMAND_VERSIONS.find((known) => known === protocol) ?? 'channel.k8s.io'
  return serveSpdyCommand(socket, head, asked, { ...options, version })
}
