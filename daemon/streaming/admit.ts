/** Whether an HTTP request is one that the streaming server serves, and by which protocol. Pure. */
import type { IncomingHttpHeaders } from 'node:http'
import type { StreamRequest } from './session.ts'
import { COMMAND_VERSIONS } from './spdy/serve-command.ts'
import { PORT_FORWARD_PROTOCOL } from './spdy/serve-port-forward.ts'
import { COMMAND_SUBPROTOCOLS, PORT_FORWARD_SUBPROTOCOLS } from './websocket/serve.ts'

export interface Refusal {
  status: number
  text: string
  headers?: Record<string, string>
}

export interface Admission {
  kind: StreamRequest['kind']
  token: string
  transport: 'spdy' | 'websocket'
  /** A version for SPDY, a subprotocol for WebSocket; empty for a WebSocket without one. */
  protocol: string
}

/** The parts of a request that matter. */
export interface Asking {
  method: string
  url: string
  headers: IncomingHttpHeaders
}

const KINDS: Record<string, StreamRequest['kind']> = { exec: 'exec', attach: 'attach', portforward: 'port-forward' }

/** The path under which a kind is served. */
export const pathOf = (kind: StreamRequest['kind'], token: string): string =>
  `/${kind === 'port-forward' ? 'portforward' : kind}/${token}`

const MAX_URL_CHARS = 2_048

const refused = (status: number, text: string, headers?: Record<string, string>): Refusal =>
  headers ? { status, text, headers } : { status, text }

export const NOT_FOUND = refused(404, 'Nothing here: the URL is wrong, was used before, or is older than a minute')

const words = (value: string | string[] | undefined): string[] =>
  [value ?? []]
    .flat()
    .flatMap((list) => list.split(','))
    .map((word) => word.trim())
    .filter(Boolean)

const places = ({ method, url, headers }: Asking): Pick<Admission, 'kind' | 'token'> | Refusal => {
  if (url.length > MAX_URL_CHARS) return refused(414, 'The URL is too long')
  if (method !== 'GET' && method !== 'POST')
    return refused(405, `The method must be GET or POST, not ${method}`, { Allow: 'GET, POST' })
  const [, name = '', token = ''] = /^\/([a-z]+)\/([0-9a-f]{32})(?:\?.*)?$/.exec(url) ?? []
  const kind = Object.hasOwn(KINDS, name) ? KINDS[name] : undefined
  if (kind === undefined) return NOT_FOUND
  // Whatever followed would be read as frames by us, and perhaps as something else by a proxy before us.
  if (headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0')
    return refused(400, 'A streaming request has no body')
  return { kind, token }
}

const spdyProtocol = (kind: StreamRequest['kind'], headers: IncomingHttpHeaders): string | Refusal => {
  const known: readonly string[] = kind === 'port-forward' ? [PORT_FORWARD_PROTOCOL] : COMMAND_VERSIONS
  const offered = words(headers['x-stream-protocol-version'])
  if (offered.length === 0) return refused(400, 'The header X-Stream-Protocol-Version is missing')
  const text = `None of the offered protocols is known (${offered.join(', ')}); known are ${known.join(', ')}`
  const accepted = { 'X-Accepted-Stream-Protocol-Versions': known.join(', ') }
  return offered.find((protocol) => known.includes(protocol)) ?? refused(403, text, accepted)
}

const webSocketProtocol = (kind: StreamRequest['kind'], headers: IncomingHttpHeaders): string | Refusal => {
  const known: readonly string[] = kind === 'port-forward' ? PORT_FORWARD_SUBPROTOCOLS : COMMAND_SUBPROTOCOLS
  const offered = words(headers['sec-websocket-protocol'])
  const chosen = offered.length === 0 ? '' : offered.find((protocol) => known.includes(protocol))
  const text = `None of the offered subprotocols is known (${offered.join(', ')}); known are ${known.filter(Boolean).join(', ')}`
  return chosen ?? refused(400, text)
}

/** @param headers of the first `Upgrade` that is known, SPDY or WebSocket, the rest has to fit. */
export const admit = (asking: Asking): Admission | Refusal => {
  const place = places(asking)
  if ('status' in place) return place
  const { headers } = asking
  const upgrades = words(headers.upgrade).map((word) => word.toLowerCase())
  const isUpgrade = words(headers.connection).some((word) => word.toLowerCase() === 'upgrade')
  const transport = upgrades.includes('spdy/3.1') ? 'spdy' : upgrades.includes('websocket') ? 'websocket' : undefined
  if (!isUpgrade || transport === undefined) {
    const text = 'This URL is for streaming: upgrade the connection to SPDY/3.1 or WebSocket, as kubectl and crictl do'
    return refused(426, text, { Upgrade: 'SPDY/3.1, websocket', Connection: 'Upgrade' })
  }
  const protocol = (transport === 'spdy' ? spdyProtocol : webSocketProtocol)(place.kind, headers)
  return typeof protocol === 'string' ? { ...place, transport, protocol } : protocol
}
