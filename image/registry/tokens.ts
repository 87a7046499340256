/**
 * Bearer tokens (distribution token specification): asks the service that a registry names, and keeps what it gave for
 * as long as it is good. A token is found again only with the same registry, service, scope and credentials.
 */

import * as z from 'zod'
import { RuntimeError } from '#proto/errors.ts'
import { basicHeader, type Credentials, credentialsKey } from '../credentials/credentials.ts'
import { addressClass } from './address-class.ts'
import { type Connection, withoutClients } from './connections.ts'
import { isListed, type RegistryHost } from './hosts.ts'
import type { Exchange } from './http-exchange.ts'
import { errorCodes, isPassingStatus, PassingFailure, printable, refusal } from './registry-error.ts'
import { type Retry, readRetryAfter, retrying } from './retry.ts'
import { readAll, send, type TransportResponse } from './transport.ts'

export interface TokenRequest {
  readonly host: RegistryHost
  /** Who sent the challenge; decides which networks the service may be in. */
  readonly hostAddress: string | undefined
  readonly realm: string
  readonly service: string | undefined
  readonly scope: string
  readonly credentials: Credentials
}

export interface GivenToken {
  readonly token: string
  /** Made for this request; otherwise it may have died since. */
  readonly isNew: boolean
}

const MAX_TOKEN_ANSWER = 1024 * 1024
const MAX_KEPT = 1000
const DEFAULT_LIFE_SECONDS = 60

const answerFields = z.object({
  token: z.string().max(65_536).optional(),
  access_token: z.string().max(65_536).optional(),
  expires_in: z.number().optional(),
})

/** What the operator says about token services. */
export interface TokenRules {
  /** May be at any address and without TLS. Its content may change. */
  readonly insecureRegistries: readonly string[]
  /** The only ones beside a registry's own host; not set: any. */
  readonly tokenServices: readonly string[] | undefined
}

export class Tokens {
  readonly #exchange: Exchange
  readonly #rules: TokenRules
  /** Token services elsewhere that got credentials, by registry: said once. */
  readonly #told = new Set<string>()
  readonly #kept = new Map<string, { token: string; goodUntilMs: number }>()

  constructor(exchange: Exchange, rules: TokenRules) {
    this.#exchange = exchange
    this.#rules = rules
  }

  /** A token from memory or from the service. `fresh` skips (and replaces) the one in memory. */
  async get(request: TokenRequest, retry: Retry, { fresh = false } = {}): Promise<GivenToken> {
    const key = keyOf(request)
    const kept = this.#kept.get(key)
    if (!fresh && kept && kept.goodUntilMs > performance.now()) return { token: kept.token, isNew: false }
    const realm = this.#checkRealm(request)
    this.#tell(request, realm, retry)
    const what = `the token service ${printable(realm)}`
    const ask = (): Promise<TransportResponse> => this.#ask(request, realm, retry.signal)
    const answer =
      request.credentials.kind === 'refresh'
        ? await readToken(await ask(), retry, what)
        : await retrying(retry, what, async () => readToken(await ask(), retry, what))
    this.#keep(key, answer)
    return { token: answer.token, isNew: true }
  }

  #ask({ host, hostAddress, service, scope, credentials }: TokenRequest, realm: URL, signal: AbortSignal) {
    const trusted = realm.origin === host.origin || isListed(realm.host, this.#rules.insecureRegistries)
    const allows = (address: string): boolean => trusted || isBeside(hostAddress, address)
    const connection = connectionFor(realm, host)
    const question = new URLSearchParams({ ...(service !== undefined && { service }), scope })
    if (credentials.kind === 'refresh') {
      question.set('grant_type', 'refresh_token')
      question.set('client_id', 'cricket')
      question.set('refresh_token', credentials.token)
      const headers = { 'content-type': 'application/x-www-form-urlencoded' }
      const body = question.toString()
      return send(this.#exchange, { method: 'POST', url: realm, headers, body, signal, allows, connection })
    }
    const url = new URL(realm)
    for (const [name, value] of question) url.searchParams.append(name, value)
    const basic = credentials.kind === 'basic' ? basicHeader(credentials.username, credentials.password) : undefined
    if (credentials.kind === 'basic') url.searchParams.append('account', credentials.username)
    return send(this.#exchange, {
      method: 'GET',
      url,
      signal,
      allows,
      connection,
      ...(basic && { authorization: basic }),
    })
  }

  /** The realm comes from the registry and gets the credentials, so it must be an address we would have gone to. */
  #checkRealm({ realm, host }: TokenRequest): URL {
    const url = realm.length <= 2048 && URL.canParse(realm) ? new URL(realm) : undefined
    const refuse = (why: string): RuntimeError =>
      new RuntimeError('failed-precondition', `Registry "${host.name}" names a token service that ${why}`)
    if (url === undefined) throw refuse('is no address')
    if (url.username !== '' || url.password !== '') throw refuse('has credentials in its address')
    const isOwn = url.origin === host.origin
    const isTrusted = isListed(url.host, this.#rules.insecureRegistries)
    if (url.protocol !== 'https:' && !(url.protocol === 'http:' && (isOwn || isTrusted))) throw refuse('is not HTTPS')
    const { tokenServices } = this.#rules
    if (tokenServices && !isAtHostOf(url, host) && !isTrusted && !isListed(url.host, tokenServices))
      throw refuse(`is at "${url.host}", which is not in image.tokenServices`)
    return url
  }

  /** Who gets credentials that are kept for a registry should be no surprise to those who look for them. */
  #tell({ host, credentials }: TokenRequest, realm: URL, { log }: Retry): void {
    if (credentials.kind === 'anonymous' || isAtHostOf(realm, host)) return
    const service = printable(realm)
    const key = `${host.origin} ${service}`
    if (this.#told.has(key) || this.#told.size >= MAX_KEPT) return
    this.#told.add(key)
    log.info('Credentials of a registry go to its token service at another host', { registry: host.name, service })
  }

  #keep(key: string, { token, lifeSeconds }: TokenAnswer): void {
    // Counted from now by our own clock: the service's may be wrong. A tenth earlier, so that it does not die on the way.
    const goodUntilMs = performance.now() + lifeSeconds * 900
    this.#kept.delete(key)
    this.#kept.set(key, { token, goodUntilMs })
    const oldest = this.#kept.keys().next()
    if (this.#kept.size > MAX_KEPT && !oldest.done) this.#kept.delete(oldest.value)
  }
}

/**
 * Whether a token service, which gets passwords, may be at this address: anywhere public, or in a private network when
 * the registry is in one too. One on this machine must be named by the operator: other ports are other people's.
 */
const isBeside = (registry: string | undefined, service: string): boolean => {
  const kind = addressClass(service)
  return kind === 'public' || (kind === 'private' && registry !== undefined && addressClass(registry) !== 'public')
}

const isAtHostOf = (url: URL, { origin }: RegistryHost): boolean => url.hostname === new URL(origin).hostname

/** The authorities of the registry vouch for its token service too; client certificates are for its own host. */
const connectionFor = (realm: URL, host: RegistryHost): Connection =>
  isAtHostOf(realm, host) ? host.connection : checked(withoutClients(host.connection))

/** Passwords go there: whoever it is must prove it, whatever was allowed for the registry. */
const checked = (connection: Connection): Connection =>
  connection.skipVerify ? { ...connection, skipVerify: false, key: `${connection.key} checked` } : connection

const keyOf = ({ host, realm, service, scope, credentials }: TokenRequest): string =>
  JSON.stringify([host.origin, realm, service, scope, credentialsKey(credentials)])

interface TokenAnswer {
  readonly token: string
  readonly lifeSeconds: number
}

const readToken = async (response: TransportResponse, { timing }: Retry, what: string): Promise<TokenAnswer> => {
  const body = await readAll(response, { maxBytes: MAX_TOKEN_ANSWER, withinMs: timing.documentMs, what })
  if (isPassingStatus(response.status)) {
    const retryAfterMs = readRetryAfter(response.headers['retry-after'], Date.now())
    throw new PassingFailure(`${what} answered ${response.status}`, { retryAfterMs })
  }
  // 400 is how OAuth2 says that a refresh token is not good.
  if (response.status === 400 || response.status === 401 || response.status === 403) {
    throw new RuntimeError('permission-denied', `No access token from ${what}: it answered ${response.status}`)
  }
  if (response.status !== 200) throw refusal(response.status, errorCodes(body), what)
  return parseAnswer(body, what)
}

const parseAnswer = (body: Buffer, what: string): TokenAnswer => {
  const parsed = answerFields.safeParse(jsonOrNothing(body))
  const token = parsed.data?.token || parsed.data?.access_token
  if (!token || !/^[\x21-\x7e]+$/.test(token)) {
    throw new RuntimeError('failed-precondition', `Answer of ${what} has no usable token`)
  }
  return { token, lifeSeconds: Math.max(parsed.data?.expires_in ?? 0, DEFAULT_LIFE_SECONDS) }
}

const jsonOrNothing = (body: Buffer): unknown => {
  try {
    return JSON.parse(body.toString('utf8'))
  } catch {
    return undefined
  }
}
