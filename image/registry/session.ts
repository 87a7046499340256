/**
 * Requests to one repository with the right Authorization: waits to be challenged, answers once, remembers how. Sends
 * user and password only to those who asked for them over a connection that may carry them.
 */

import { RuntimeError } from '#proto/errors.ts'
import { basicHeader, type Credentials } from '../credentials/credentials.ts'
import { type AuthChallenge, parseChallenges } from './auth-challenge.ts'
import type { RegistryHost } from './hosts.ts'
import type { HttpExchange } from './http-exchange.ts'
import { errorCodes, isPassingStatus, PassingFailure, refusal } from './registry-error.ts'
import { type Retry, readRetryAfter } from './retry.ts'
import type { TokenRequest, Tokens } from './tokens.ts'
import { readAll, send, type TransportResponse } from './transport.ts'

export interface SessionInput {
  readonly host: RegistryHost
  /** Repository, the scope of every token: "library/busybox". */
  readonly path: string
  readonly credentials: CredentialSource
  readonly exchange: HttpExchange
  readonly tokens: Tokens
}

/** Credentials are looked up only when somebody asks for them: a helper program may have to be run. */
export interface CredentialSource {
  /** A registry token, sent without being asked for. */
  readonly upfront?: string
  /** @throws RuntimeError permission-denied, failed-precondition */
  get(signal: AbortSignal): Promise<Credentials>
}

/** How this registry wants to be talked to, learned from its first 401. */
type Scheme =
  | { readonly kind: 'none' }
  | { readonly kind: 'fixed'; readonly header: string }
  | { readonly kind: 'token'; readonly request: TokenRequest }

/** What a request proved itself with: a token out of memory may have died, what is new is as good as it gets. */
type Proof = 'nothing' | 'kept' | 'new'

interface Sent {
  readonly response: TransportResponse
  readonly proof: Proof
}

const ANSWERS = new Set([200, 206, 416])
const MAX_ERROR_BODY = 64 * 1024

export class Session {
  readonly #input: SessionInput
  #scheme: Scheme = { kind: 'none' }

  constructor(input: SessionInput) {
    this.#input = input
  }

  /**
   * One GET below /v2/<path>/, authorised; the answer is 200, 206 or 416, which the caller tells apart.
   * @param what names the thing in errors: 'manifest "latest" of …'
   * @throws PassingFailure to be tried again; RuntimeError final
   */
  async get(below: string, headers: Record<string, string>, retry: Retry, what: string): Promise<TransportResponse> {
    const { host, path } = this.#input
    const url = new URL(`${host.prefix}/${path}/${below}`, host.origin)
    if (host.upstream !== undefined) url.searchParams.set('ns', host.upstream)
    let { response, proof } = await this.#send(url, headers, retry, false)
    // From nothing to what is in memory, from that, should it have died early, to a new one; never further.
    while (response.status === 401 && !response.leftOrigin && proof !== 'new') {
      response.discard()
      this.#scheme = await this.#answer(response, retry, what)
      const again = await this.#send(url, headers, retry, proof === 'kept')
      response = again.response
      proof = again.proof
    }
    if (ANSWERS.has(response.status)) return response
    throw await failureOf(response, retry, what)
  }

  async #send(url: URL, headers: Record<string, string>, retry: Retry, fresh: boolean): Promise<Sent> {
    const { authorization, proof } = await this.#authorization(retry, fresh)
    const { exchange, host } = this.#input
    const request = {
      method: 'GET',
      url,
      headers,
      ownHeaders: host.headers,
      connection: host.connection,
      signal: retry.signal,
      ...(authorization && { authorization }),
    } as const
    return { proof, response: await send(exchange, request) }
  }

  async #authorization(retry: Retry, fresh: boolean): Promise<{ authorization?: string; proof: Proof }> {
    const { credentials, tokens } = this.#input
    if (credentials.upfront !== undefined) return { authorization: `Bearer ${credentials.upfront}`, proof: 'new' }
    if (this.#scheme.kind === 'none') return { proof: 'nothing' }
    if (this.#scheme.kind === 'fixed') return { authorization: this.#scheme.header, proof: 'new' }
    const { token, isNew } = await tokens.get(this.#scheme.request, retry, { fresh })
    return { authorization: `Bearer ${token}`, proof: isNew ? 'new' : 'kept' }
  }

  async #answer(response: TransportResponse, { signal }: Retry, what: string): Promise<Scheme> {
    const { host, path } = this.#input
    const challenges = parseChallenges(response.headers['www-authenticate'])
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer')
    const denied = (why: string): RuntimeError => new RuntimeError('permission-denied', `No access to ${what}: ${why}`)
    // Whoever offers tokens gets no password, even when it offers Basic as well.
    if (bearer) {
      const credentials = await this.#input.credentials.get(signal)
      if (credentials.kind === 'bearer') return { kind: 'fixed', header: `Bearer ${credentials.token}` }
      return { kind: 'token', request: tokenRequest(bearer, host, path, credentials, response.address) }
    }
    if (!challenges.some(({ scheme }) => scheme === 'basic'))
      throw denied('the registry asks for no known kind of credentials')
    const credentials = await this.#input.credentials.get(signal)
    if (credentials.kind !== 'basic') throw denied('the registry wants user and password')
    return { kind: 'fixed', header: basicHeader(credentials.username, credentials.password) }
  }
}

const tokenRequest = (
  challenge: AuthChallenge,
  host: RegistryHost,
  path: string,
  credentials: Credentials,
  hostAddress: string | undefined,
): TokenRequest => ({
  host,
  hostAddress,
  realm: challenge.parameters.get('realm') ?? '',
  service: challenge.parameters.get('service'),
  scope: challenge.parameters.get('scope') || `repository:${path}:pull`,
  credentials,
})

const failureOf = async (response: TransportResponse, { timing }: Retry, what: string): Promise<Error> => {
  const { status } = response
  if (isPassingStatus(status)) {
    response.discard()
    const retryAfterMs = readRetryAfter(response.headers['retry-after'], Date.now())
    return new PassingFailure(`Registry answered ${status} for ${what}`, { retryAfterMs })
  }
  if (response.leftOrigin && (status === 401 || status === 403)) {
    response.discard()
    // A presigned address may have expired; the registry makes a new one.
    return new PassingFailure(`Storage behind the registry answered ${status} for ${what}`)
  }
  const limits = { maxBytes: MAX_ERROR_BODY, withinMs: timing.documentMs, what }
  const body = await readAll(response, limits).catch(() => Buffer.alloc(0))
  return refusal(status, errorCodes(body), what)
}
