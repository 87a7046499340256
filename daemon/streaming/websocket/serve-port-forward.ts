/**
 * Port-forwarding over the channels of a WebSocket: two per port, data and error, each beginning with the port's number as two
 * bytes, the low one first. There is one connection per port and no half-close; the session ends when all have ended.
 */
import type { WebSocket } from 'ws'
import { forwardPort } from '../forward-port.ts'
import type { CommandParts } from '../serve-command.ts'

import { type Direction, WebSocketChannels } from './channels.ts'

/** The channel number is one byte, and 255 has a meaning of its own. */
const MAX_PORTS = 100
const DATA_BYTES = 65_536
const POLICY_VIOLATION = 1008
const FAREWELL_MS = 1_000

const portBytes = (port: number): Buffer => {
  const bytes = Buffer.allocUnsafe(2)
  bytes.writeUInt16LE(port)
  return bytes
}

/** Resolves when the session is over. Never rejects. */
export const serveChannelPortForward = async (
  socket: WebSocket,
  sandboxId: string,
  ports: readonly number[],
  { subprotocol, backend, session }: CommandParts & { subprotocol: string },
): Promise<void> => {
  const areValid = ports.length > 0 && ports.length <= MAX_PORTS && ports.every((port) => port >= 1 && port <= 65_535)
  const channels = new WebSocketChannels(socket, {
    encoding: subprotocol.includes('base64') ? 'base64' : 'binary',
    directions: areValid ? ports.flatMap((): Direction[] => ['both', 'out']) : [],
    closes: false,
    receiveBytes: DATA_BYTES,
    moved: session.moved,
    closed: session.abort,
  })
  if (!areValid) {
    channels.finish(POLICY_VIOLATION, `the ports must be 1 to ${MAX_PORTS} numbers from 1 to 65535`)
    return
  }
  const pairs = ports.map((port, index) => {
    const [data, error] = [channels.channel(2 * index), channels.channel(2 * index + 1)]
    // There is no half-close: the client learns of the pod's end only by that of the connection.
    data.once('finish', () => data.push(null))
    data.write(portBytes(port))
    error.write(portBytes(port))
    return { port, data, error }
  })
  const all = Promise.all(pairs.map((pair) => forwardPort(pair, sandboxId, backend)))
  await Promise.race([all, session.aborted])
  await Promise.race([channels.flushed(), session.aborted])
  if (session.signal.aborted) setTimeout(() => channels.destroy(), FAREWELL_MS)
  channels.finish()
}
