/** Answers that are no streams: a status line, a sentence, and the end of the connection. */
import { type ServerResponse, STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Refusal } from './admit.ts'

const headersOf = ({ text, headers }: Refusal): Record<string, string> => ({
  ...headers,
  'Content-Type': 'text/plain; charset=utf-8',
  'Content-Length': String(Buffer.byteLength(text) + 1),
  'X-Content-Type-Options': 'nosniff',
  'Cache-Control': 'no-store',
  // Nothing that follows on this connection is another request.
  Connection: headers?.Connection === undefined ? 'close' : `${headers.Connection}, close`,
})

/** Answers an ordinary request. */
export const refuse = (response: ServerResponse, refusal: Refusal): void => {
  response.writeHead(refusal.status, headersOf(refusal)).end(`${refusal.text}\n`)
}

/** How long a client may take to read an answer. */
const LINGER_MS = 5_000

/** Answers a request for an upgrade, of which only the socket is left, and closes it. */
export const refuseUpgrade = (socket: Duplex, refusal: Refusal): void => {
  const lines = Object.entries(headersOf(refusal)).map(([name, value]) => `${name}: ${value}`)
  const head = [`HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status] ?? ''}`, ...lines, '', ''].join('\r\n')
  const late = setTimeout(() => socket.destroy(), LINGER_MS)
  socket.once('close', () => clearTimeout(late))
  socket.on('end', () => socket.destroy())
  socket.resume()
  socket.end(`${head}${refusal.text}\n`)
}
