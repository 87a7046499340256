/** A client for the WebSocket channels: what came per channel, and how the connection was closed. */
import { WebSocket } from 'ws'

export interface WebSocketClient {
  socket: WebSocket
  /** All that came on a channel. */
  channel(id: number): Buffer
  /** How many messages came, also empty ones. */
  messages: number
  send(id: number, data: Buffer | string): void
  /** The code of the close frame; 1006 when there was none. */
  closed: Promise<number>
}

export interface WebSocketDial {
  subprotocols: string[]
  base64?: boolean
  headers?: Record<string, string>
  rejectUnauthorized?: boolean
}

/** Rejects with the answer's status when it is no handshake. */
export const dialWebSocket = async (
  url: string,
  { subprotocols, base64 = false, headers = {}, rejectUnauthorized = true }: WebSocketDial,
): Promise<WebSocketClient> => {
  const socket = new WebSocket(url.replace(/^http/, 'ws'), subprotocols, {
    headers,
    rejectUnauthorized,
    perMessageDeflate: true,
  })
  const channels = new Map<number, Buffer[]>()
  const client: WebSocketClient = {
    socket,
    messages: 0,
    channel: (id) => Buffer.concat(channels.get(id) ?? []),
    send(id, data) {
      if (base64) socket.send(`${id}${Buffer.from(data).toString('base64')}`)
      else socket.send(Buffer.concat([Buffer.from([id]), Buffer.from(data)]))
    },
    closed: new Promise((resolve) => socket.once('close', (code) => resolve(code))),
  }
  socket.on('message', (data: Buffer) => {
    client.messages++
    const id = data.readUInt8(0) - (base64 ? 0x30 : 0)
    const payload = base64 ? Buffer.from(data.toString('latin1', 1), 'base64') : data.subarray(1)
    channels.set(id, [...(channels.get(id) ?? []), payload])
  })
  await new Promise<void>((resolve, reject) => {
    socket.once('open', () => resolve())
    socket.once('error', reject)
    socket.once('unexpected-response', (_, response) => reject(new Error(String(response.statusCode))))
  })
  socket.on('error', () => {})
  return client
}
