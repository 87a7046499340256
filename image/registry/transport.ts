/**
 * A request with its redirects. The Authorization header goes to the origin it was made for and nowhere else; once a
 * redirect has led away it does not come back even when the trail returns.
 */

import { RuntimeError } from '#proto/errors.ts'
import { addressClass } from './address-class.ts'
import { type Connection, withoutClients } from './connections.ts'
import type { Exchange, ExchangeResponse } from './http-exchange.ts'
import { PassingFailure, printable } from './registry-error.ts'

export interface TransportRequest {
  readonly method: 'GET' | 'POST'
  readonly url: URL
  readonly headers?: Readonly<Record<string, string>>
  readonly authorization?: string
  /** Of the operator's, for the origin that is asked first and for nobody else. */
  readonly ownHeaders?: Readonly<Record<string, string>>
  readonly connection?: Connection
  readonly body?: string
  readonly signal: AbortSignal
  /** Where the first hop may connect to; the registry itself may be anywhere, that is the kubelet's choice. */
  readonly allows?: (address: string) => boolean
}

export interface TransportResponse extends ExchangeResponse {
  /** Whether somebody else than the one asked has answered. */
  readonly leftOrigin: boolean
}

const MAX_REDIRECTS = 5
const REDIRECTS = new Set([301, 302, 303, 307, 308])
const everywhere = (): boolean => true

/** Sends and follows redirects (GET only). Throws what HttpExchange throws, and RuntimeError for a forbidden redirect. */
export const send = async (exchange: Exchange, request: TransportRequest): Promise<TransportResponse> => {
  const { method, headers, body, signal } = request
  let { connection } = request
  let url = request.url
  let leftOrigin = false
  let allows = request.allows ?? everywhere
  for (let hop = 0; ; hop++) {
    const response = await exchange.send({
      method,
      url,
      headers: leftOrigin ? { ...headers } : { ...ownHeaders(request), ...headers },
      ...(body !== undefined && { body }),
      ...(connection !== undefined && { connection }),
      signal,
      allows,
    })
    if (!isFollowed(method, response)) return { ...response, leftOrigin }
    response.discard()
    if (hop === MAX_REDIRECTS) throw refusedRedirect(request.url, `it redirects more than ${MAX_REDIRECTS} times`)
    const next = redirectTarget(response.headers.location, url)
    if (next.origin !== request.url.origin) {
      leftOrigin = true
      connection = connection && withoutClients(connection)
      allows = storageOf(response.address)
    }
    url = next
  }
}

/** Names in lower case, so that what we say wins over what the operator wrote in another spelling. */
const ownHeaders = ({ ownHeaders = {}, authorization }: TransportRequest): Record<string, string> => ({
  ...Object.fromEntries(Object.entries(ownHeaders).map(([name, value]) => [name.toLowerCase(), value])),
  ...(authorization !== undefined && { authorization }),
})

const isFollowed = (method: string, { status, headers }: ExchangeResponse): boolean =>
  method === 'GET' && REDIRECTS.has(status) && headers.location !== undefined

const redirectTarget = (location: string | undefined, from: URL): URL => {
  const next = URL.canParse(location ?? '', from) ? new URL(location ?? '', from) : undefined
  if (next === undefined) throw refusedRedirect(from, 'it redirects to something that is no address')
  if (next.protocol !== 'https:' && next.protocol !== 'http:')
    throw refusedRedirect(from, 'it redirects away from HTTP')
  if (from.protocol === 'https:' && next.protocol === 'http:') throw refusedRedirect(from, 'it redirects to plain HTTP')
  if (next.username !== '' || next.password !== '')
    throw refusedRedirect(from, 'it redirects with credentials in the address')
  return next
}

/**
 * Where a redirect may lead: storage behind a public registry can have a private address (endpoints inside a cloud
 * network), and what comes from there is only taken by its digest. But nobody else sends us to this machine itself or to
 * a metadata service.
 */
const storageOf = (address: string | undefined): ((target: string) => boolean) => {
  const isLocal = address !== undefined && addressClass(address) === 'loopback'
  return (target) => {
    const kind = addressClass(target)
    return kind === 'public' || kind === 'private' || (kind === 'loopback' && isLocal)
  }
}

const refusedRedirect = (url: URL, why: string): RuntimeError =>
  new RuntimeError('failed-precondition', `Answer of ${printable(url)} is refused: ${why}`)

/**
 * A whole small body.
 * @param maxBytes one more is refused
 * @throws RuntimeError resource-exhausted; PassingFailure when it takes longer than `withinMs`
 */
export const readAll = async (
  response: ExchangeResponse,
  { maxBytes, withinMs, what }: { maxBytes: number; withinMs: number; what: string },
): Promise<Buffer> => {
  refuseEncoded(response, what)
  const chunks: Uint8Array[] = []
  let length = 0
  const late = performance.now() + withinMs
  for await (const chunk of response.body()) {
    length += chunk.length
    if (length > maxBytes) {
      throw new RuntimeError('resource-exhausted', `Answer for ${what} is larger than ${maxBytes} bytes`)
    }
    if (performance.now() > late) throw new PassingFailure(`Answer for ${what} takes too long`)
    chunks.push(Buffer.from(chunk))
  }
  return Buffer.concat(chunks, length)
}

/** We asked for bytes as they are; what was encoded nevertheless would not have the digest. */
export const refuseEncoded = (response: ExchangeResponse, what: string): void => {
  const encoding = response.headers['content-encoding']
  if (encoding === undefined || encoding.toLowerCase() === 'identity') return
  response.discard()
  throw new RuntimeError('failed-precondition', `Answer for ${what} is encoded although we asked for identity`)
}
