/**
 * One HTTP request and its answer: time limits, the check of the address before connecting, proxies. No redirects,
 * no retries, no credentials; those are transport.ts and session.ts.
 */

import { type LookupAddress, lookup } from 'node:dns'
import * as http from 'node:http'
import * as https from 'node:https'
import { isIP, type LookupFunction, type Socket } from 'node:net'
import { RuntimeError } from '#proto/errors.ts'
import { Agents } from './agents.ts'
import { type Connection, PLAIN_CONNECTION } from './connections.ts'
import { type ProxySettings, proxyFor } from './proxies.ts'
import { readBody } from './read-body.ts'
import { printable } from './registry-error.ts'
import type { Timing } from './timing.ts'

export interface ExchangeRequest {
  readonly method: 'GET' | 'POST'
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
  readonly signal: AbortSignal
  /** Whom to trust and who we are; the system's trust and nobody when not given. */
  readonly connection?: Connection
  /** Asked for every address before a connection to it is made; a proxy hides addresses, then nobody is asked. */
  readonly allows: (address: string) => boolean
}

export interface ExchangeResponse {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  /** Who answered; undefined behind a proxy. */
  readonly address: string | undefined
  /** To be read once, each piece before the next one is asked for. Fails with ETIMEDOUT when it stalls. */
  body(): AsyncGenerator<Uint8Array, void, undefined>
  /** Gives the body up and the connection with it. */
  discard(): void
}

export interface Exchange {
  send(request: ExchangeRequest): Promise<ExchangeResponse>
}

export class HttpExchange implements Exchange {
  readonly #timing: Timing
  readonly #proxies: ProxySettings
  readonly #agents = new Agents()

  constructor(timing: Timing, proxies: ProxySettings) {
    this.#timing = timing
    this.#proxies = proxies
  }

  /** Resolves with the head of the answer. Rejects with Node's own errors (`code`), or RuntimeError for a refused address. */
  send(request: ExchangeRequest): Promise<ExchangeResponse> {
    const proxy = proxyFor(request.url, this.#proxies)
    const proxied = proxy !== undefined
    if (!isAllowedLiteral(request)) return Promise.reject(refusedAddress(request.url))
    return new Promise((resolve, reject) => {
      const outgoing = this.#start(request, proxy)
      const timer = new Countdown(() => outgoing.destroy(timedOut('no answer')))
      timer.start(request.connection?.dialTimeoutMs ?? this.#timing.connectMs)
      if (!proxied) outgoing.on('socket', (socket) => refuseReused(outgoing, socket, request))
      outgoing.on('finish', () => timer.start(this.#timing.responseMs))
      const fail = (error: Error): void => {
        timer.stop()
        reject(error)
      }
      outgoing.on('error', fail)
      // Nobody asked for another protocol; Node would wait for somebody who wants it.
      outgoing.on('upgrade', (_incoming, socket) => {
        socket.destroy()
        fail(cutOff())
      })
      // Whatever else can end a request without a word: it must not be waited for any longer.
      outgoing.on('close', () => fail(cutOff()))
      outgoing.on('response', (incoming) => {
        timer.stop()
        resolve(this.#response(incoming, proxied))
      })
      outgoing.end(request.body)
    })
  }

  close(): void {
    this.#agents.close()
  }

  #start(request: ExchangeRequest, proxy: string | undefined): http.ClientRequest {
    const { method, url, headers, signal, allows, connection = PLAIN_CONNECTION } = request
    const secure = url.protocol === 'https:'
    const options = {
      method,
      // Compressed answers would be another way to make little bytes many.
      headers: { 'user-agent': 'cricket', 'accept-encoding': 'identity', ...headers },
      signal,
      agent: this.#agents.get(secure, connection, proxy),
      ...(proxy === undefined && { lookup: checkedLookup(url, allows) }),
    }
    return secure ? https.request(url, options) : http.request(url, options)
  }

  #response(incoming: http.IncomingMessage, proxied: boolean): ExchangeResponse {
    return {
      status: incoming.statusCode ?? 0,
      headers: incoming.headers,
      address: proxied ? undefined : incoming.socket.remoteAddress,
      body: () => readBody(incoming, this.#timing),
      discard: () => void incoming.on('error', () => {}).destroy(),
    }
  }
}

const bareHost = (url: URL): string => url.hostname.replace(/^\[|\]$/g, '')

/** Addresses in the URL itself are never looked up, so they are checked here. */
const isAllowedLiteral = ({ url, allows }: ExchangeRequest): boolean => {
  const host = bareHost(url)
  return isIP(host) === 0 || allows(host)
}

/** Refuses at the moment of connecting: a name that was good a second ago can point elsewhere now. */
const checkedLookup =
  (url: URL, allows: (address: string) => boolean): LookupFunction =>
  (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error) return callback(error, [])
      const allowed = addresses.filter(({ address }) => allows(address))
      const first: LookupAddress | undefined = allowed[0]
      if (first === undefined) return callback(refusedAddress(url), [])
      if (options.all) callback(null, allowed)
      else callback(null, first.address, first.family)
    })
  }

/** An open connection is used again without a look-up, and whoever made it may have been allowed more. Nothing is sent before this. */
const refuseReused = (
  outgoing: http.ClientRequest,
  { remoteAddress }: Socket,
  { url, allows }: ExchangeRequest,
): void => {
  if (remoteAddress !== undefined && !allows(remoteAddress)) outgoing.destroy(refusedAddress(url))
}

const refusedAddress = (url: URL): RuntimeError =>
  new RuntimeError('failed-precondition', `Registry points to ${printable(url)}, an address that it may not send us to`)

const cutOff = (): Error => Object.assign(new Error('the connection ended without an answer'), { code: 'ECONNRESET' })

const timedOut = (message: string): Error => Object.assign(new Error(message), { code: 'ETIMEDOUT' })

class Countdown {
  readonly #onEnd: () => void
  #timer: NodeJS.Timeout | undefined

  constructor(onEnd: () => void) {
    this.#onEnd = onEnd
  }

  start(ms: number): void {
    this.stop()
    this.#timer = setTimeout(this.#onEnd, ms)
  }

  stop(): void {
    clearTimeout(this.#timer)
  }
}
