/** A WebSocket session from its accepted handshake to its end, by the subprotocol that was agreed on. */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { createWebSocketStream, type WebSocket, WebSocketServer } from 'ws'
import { parsePort } from '../forward-port.ts'
import type { CommandParts } from '../serve-command.ts'
import type { PortForwardRequest, StreamRequest } from '../session.ts'
import { serveSpdyPortForward } from '../spdy/serve-port-forward.ts'
import { serveChannelCommand } from './serve-command.ts'
import { serveChannelPortForward } from './serve-port-forward.ts'

/** The subprotocol that carries SPDY frames in binary messages. */
export const TUNNEL_PROTOCOL = 'SPDY/3.1+portforward.k8s.io'

/** Subprotocols by kind of request; the empty one is no subprotocol at all. */
export const COMMAND_SUBPROTOCOLS = [
  'v5.channel.k8s.io',
  'v4.channel.k8s.io',
  'v4.base64.channel.k8s.io',
  'channel.k8s.io',
  'base64.channel.k8s.io',
  '',
] as const
export const PORT_FORWARD_SUBPROTOCOLS = [TUNNEL_PROTOCOL, 'v4.channel.k8s.io', 'v4.base64.channel.k8s.io', ''] as const

/** Clients send stdin in pieces of 32 KiB. */
const MAX_MESSAGE_BYTES = 1_048_576
/** Unread answers to pings, 131 bytes each. A client that pings every five seconds and reads nothing is borne for hours. */
const MAX_PENDING_PONGS = 4_096
/** kubectl gives up a server of which it has heard nothing for a minute. */
const SIGN_OF_LIFE_MS = 5_000

const serverOptions = {
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  maxPayload: MAX_MESSAGE_BYTES,
  maxPendingAutoPongs: MAX_PENDING_PONGS,
}

/** One for all sessions: it has no state of its own. */
const handshakes = new WebSocketServer(serverOptions)

const agreed = new WeakMap<IncomingMessage, string>()
handshakes.on('headers', (headers, request) => {
  const subprotocol = agreed.get(request)
  if (subprotocol) headers.push(`Sec-WebSocket-Protocol: ${subprotocol}`)
})

/** Completes the handshake. A request that is none is answered by 400, and the promise never settles: the socket is closed. */
const shakeHands = (
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  subprotocol: string,
): Promise<WebSocket> => {
  // The library refuses names that are no tokens, as the tunnel's is, and would choose by itself.
  delete request.headers['sec-websocket-protocol']
  agreed.set(request, subprotocol)
  return new Promise((resolve, reject) => {
    socket.once('close', () => reject(new Error('The handshake failed')))
    handshakes.handleUpgrade(request, socket, head, resolve)
  })
}

/**
 * While nothing is read, pongs go out unasked: clients give up a server that says nothing, and a client that is gone answers
 * with a reset, which is the only way to learn of it.
 */
const giveSignsOfLife = (socket: WebSocket): void => {
  const pulse = setInterval(() => {
    if (socket.isPaused && socket.readyState === socket.OPEN) socket.pong('', false, () => {})
  }, SIGN_OF_LIFE_MS)
  socket.once('close', () => clearInterval(pulse))
}

export interface WebSocketOptions extends CommandParts {
  subprotocol: string
  creationMs: number
}

/** The ports of a session that has a channel for each: of the CRI request, or else named in the URL. */
const portsOf = (asked: PortForwardRequest, request: IncomingMessage): number[] => {
  if (asked.ports !== undefined && asked.ports.length > 0) return [...asked.ports]
  const query = new URL(request.url ?? '/', 'http://localhost').searchParams
  return [...query.getAll('port'), ...query.getAll('ports')]
    .flatMap((list) => list.split(','))
    .map((port) => parsePort(port) ?? 0)
}

/** Resolves when the session is over. Never rejects. */
export const serveWebSocket = async (
  asked: StreamRequest,
  { request, socket, head }: { request: IncomingMessage; socket: Duplex; head: Buffer },
  options: WebSocketOptions,
): Promise<unknown> => {
  let connection: WebSocket
  try {
    connection = await shakeHands(request, socket, head, options.subprotocol)
  } catch {
    return
  }
  giveSignsOfLife(connection)
  if (asked.kind !== 'port-forward') return serveChannelCommand(connection, asked, options)
  if (options.subprotocol !== TUNNEL_PROTOCOL)
    return serveChannelPortForward(connection, asked.sandboxId, portsOf(asked, request), options)
  return serveSpdyPortForward(createWebSocketStream(connection), Buffer.alloc(0), asked, options)
}
