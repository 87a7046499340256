/**
 * A registry in memory over real HTTP that can be told to misbehave. It is checked by the same pulls that run against
 * Debian's docker-registry (docker-registry.test.ts).
 */

import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { TLSSocket } from 'node:tls'
import type { BuiltDocument, BuiltImage, BuiltIndex } from './image-builder.ts'

export interface SeenRequest {
  readonly method: string
  /** Path with query. */
  readonly url: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
  /** Common name of the certificate that the client showed. */
  readonly client: string | undefined
}

/** PEM. A client may show a certificate; who does not is served too. */
export interface ServerTls {
  readonly cert: string
  readonly key: string
  /** Who vouches for clients. */
  readonly ca?: string
  readonly requireClient?: boolean
  readonly maxVersion?: 'TLSv1.1'
}

/** What to do instead of the honest answer. */
export type Misdeed =
  | {
      readonly do: 'answer'
      readonly status: number
      readonly headers?: Record<string, string>
      readonly body?: string | Buffer
    }
  /** The honest answer, then the connection is closed after so many bytes of the body. */
  | { readonly do: 'cut'; readonly afterBytes: number }
  /** The honest answer in pieces with pauses. */
  | { readonly do: 'slow'; readonly pieceBytes: number; readonly pauseMs: number }
  /** Nothing more after so many bytes, connection open. */
  | { readonly do: 'stall'; readonly afterBytes: number }
  /** The honest head with other bytes. */
  | { readonly do: 'lie'; readonly body: Buffer; readonly headers?: Record<string, string> }
  /** The honest head, range included, with as many other bytes. */
  | { readonly do: 'spoil' }
  /** The honest answer, but after so many bytes of the body it waits for the promise that this gives. */
  | { readonly do: 'pause'; readonly afterBytes: number; readonly until: () => Promise<unknown> }
  /** The honest answer with further headers. */
  | { readonly do: 'say'; readonly headers: Record<string, string> }
  | { readonly do: 'reset' }
  | { readonly do: 'ignore-range' }
  | { readonly do: 'endless' }
  /** Waits for the promise that this gives, then answers honestly. */
  | { readonly do: 'hold'; readonly until: () => Promise<unknown> }

export interface Fault {
  /** Which requests: a piece of the path. */
  readonly path: string | RegExp
  /** How often; for ever when not given. */
  readonly times?: number
  readonly misdeed: Misdeed
}

export type RegistryAccess =
  | { readonly kind: 'open' }
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  | {
      readonly kind: 'token'
      readonly username?: string
      readonly password?: string
      readonly refreshToken?: string
      /** Replaces the realm of the challenge. */
      readonly realm?: string
      readonly lifeSeconds?: number
    }
  /** A fixed bearer token. */
  | { readonly kind: 'bearer'; readonly token: string }

export class TestRegistry implements AsyncDisposable {
  readonly requests: SeenRequest[] = []
  /** Bytes of bodies that were sent after the honest head. */
  bytesSent = 0
  access: RegistryAccess
  readonly #server: Server
  readonly #documents = new Map<string, BuiltDocument>()
  readonly #blobs = new Map<string, Buffer>()
  readonly #tokens = new Set<string>()
  #faults: { fault: Fault; left: number }[] = []

  private constructor(access: RegistryAccess, tls: ServerTls | undefined) {
    this.access = access
    const handle = (request: IncomingMessage, response: ServerResponse): void => {
      this.#handle(request, response).catch(() => response.destroy())
    }
    this.#server = tls
      ? createTlsServer(
          {
            ...tls,
            requestCert: tls.ca !== undefined,
            rejectUnauthorized: tls.requireClient ?? false,
            ...(tls.maxVersion && { minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' }),
          },
          handle,
        )
      : createServer(handle)
  }

  static async start(access: RegistryAccess = { kind: 'open' }, tls?: ServerTls): Promise<TestRegistry> {
    const registry = new TestRegistry(access, tls)
    await new Promise<void>((resolve) => registry.#server.listen(0, '127.0.0.1', resolve))
    return registry
  }

  /** "127.0.0.1:34567" */
  get host(): string {
    const address = this.#server.address() as AddressInfo
    return `127.0.0.1:${address.port}`
  }

  /** Puts an image or an index with its images into a repository; with a tag if one is given. */
  add(repository: string, image: BuiltImage | BuiltIndex, tag?: string): void {
    const images = 'images' in image ? image.images : [image]
    for (const each of [...images, image]) this.#documents.set(`${repository}/${each.digest}`, each)
    if (tag !== undefined) this.#documents.set(`${repository}/${tag}`, image)
    for (const each of images) for (const [digest, bytes] of each.blobs) this.#blobs.set(digest, bytes)
  }

  misbehave(fault: Fault): void {
    this.#faults.push({ fault, left: fault.times ?? Number.POSITIVE_INFINITY })
  }

  behave(): void {
    this.#faults = []
  }

  /** Forgets all tokens: those in use stop working. */
  revokeTokens(): void {
    this.#tokens.clear()
  }

  /** Paths asked for that contain this. */
  seen(part: string): SeenRequest[] {
    return this.requests.filter(({ url }) => url.includes(part))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '', headers } = request
    let body = ''
    for await (const piece of request) body += piece
    this.requests.push({ method, url, headers, body, client: clientOf(request) })
    const misdeed = this.#takeFault(url)
    if (misdeed?.do === 'hold') await misdeed.until()
    if (misdeed?.do === 'reset') return void request.socket.resetAndDestroy()
    if (misdeed?.do === 'answer') {
      response.writeHead(misdeed.status, misdeed.headers).end(misdeed.body)
      return
    }
    if (misdeed?.do === 'endless') return endless(response)
    const answer = this.#answer({ method, url, headers, body, client: undefined }, misdeed?.do === 'ignore-range')
    this.bytesSent += misdeed?.do === 'cut' ? Math.min(misdeed.afterBytes, answer.body.length) : answer.body.length
    await deliver(response, answer, misdeed)
  }

  #takeFault(url: string): Misdeed | undefined {
    const found = this.#faults.find(
      ({ fault, left }) =>
        left > 0 && (typeof fault.path === 'string' ? url.includes(fault.path) : fault.path.test(url)),
    )
    if (!found) return undefined
    found.left--
    return found.fault.misdeed
  }

  #answer(request: SeenRequest, ignoreRange: boolean): Answer {
    const url = new URL(request.url, `http://${this.host}`)
    if (url.pathname === '/token') return this.#token(request, url)
    const denied = this.#deny(request)
    if (denied) return denied
    const found = /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(url.pathname)
    const [, repository = '', kind, name = ''] = found ?? []
    if (kind === 'manifests') {
      const document = this.#documents.get(`${repository}/${name}`)
      if (!document) return failure(404, 'MANIFEST_UNKNOWN')
      const { digest, mediaType, bytes } = document
      return { status: 200, headers: { 'content-type': mediaType, 'docker-content-digest': digest }, body: bytes }
    }
    const blob = kind === 'blobs' ? this.#blobs.get(name) : undefined
    if (!blob) return failure(404, 'BLOB_UNKNOWN')
    return ignoreRange ? { status: 200, headers: {}, body: blob } : ranged(blob, request.headers.range)
  }

  #deny({ headers, url }: SeenRequest): Answer | undefined {
    const { access } = this
    const given = headers.authorization
    switch (access.kind) {
      case 'open':
        return undefined
      case 'basic':
        return given === basic(access.username, access.password)
          ? undefined
          : failure(401, 'UNAUTHORIZED', { 'www-authenticate': 'Basic realm="test registry"' })
      case 'bearer':
        return given === `Bearer ${access.token}` ? undefined : failure(401, 'UNAUTHORIZED', this.#challenge(url))
      case 'token':
        return given?.startsWith('Bearer ') && this.#tokens.has(given.slice(7))
          ? undefined
          : failure(401, 'UNAUTHORIZED', this.#challenge(url))
    }
  }

  #challenge(url: string): Record<string, string> {
    const realm = (this.access.kind === 'token' && this.access.realm) || `http://${this.host}/token`
    const repository = /^\/v2\/(.+)\/(?:manifests|blobs)\//.exec(url)?.[1] ?? ''
    const value = `Bearer realm="${realm}",service="test registry",scope="repository:${repository}:pull"`
    return { 'www-authenticate': value }
  }

  #token({ headers, method, body }: SeenRequest, _url: URL): Answer {
    const { access } = this
    if (access.kind !== 'token') return failure(404, 'NAME_UNKNOWN')
    const granted =
      method === 'POST'
        ? access.refreshToken !== undefined && new URLSearchParams(body).get('refresh_token') === access.refreshToken
        : access.username === undefined || headers.authorization === basic(access.username, access.password ?? '')
    if (!granted) return failure(401, 'UNAUTHORIZED')
    const token = randomUUID()
    this.#tokens.add(token)
    const answer = { [method === 'POST' ? 'access_token' : 'token']: token, expires_in: access.lifeSeconds ?? 300 }
    return { status: 200, headers: { 'content-type': 'application/json' }, body: Buffer.from(JSON.stringify(answer)) }
  }
}

const clientOf = ({ socket }: IncomingMessage): string | undefined => {
  if (!(socket instanceof TLSSocket)) return undefined
  const name = socket.getPeerCertificate()?.subject?.CN
  return Array.isArray(name) ? name[0] : name
}

interface Answer {
  readonly status: number
  readonly headers: Record<string, string>
  readonly body: Buffer
}

const basic = (username: string, password: string): string =>
  `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`

const failure = (status: number, code: string, headers: Record<string, string> = {}): Answer => ({
  status,
  headers: { 'content-type': 'application/json', ...headers },
  body: Buffer.from(JSON.stringify({ errors: [{ code, message: 'as the test wants it' }] })),
})

const ranged = (blob: Buffer, range: string | undefined): Answer => {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? []
  if (first === undefined) return { status: 200, headers: {}, body: blob }
  const start = Number(first)
  if (start >= blob.length) return { status: 416, headers: {}, body: Buffer.alloc(0) }
  const end = last ? Math.min(Number(last) + 1, blob.length) : blob.length
  const headers = { 'content-range': `bytes ${start}-${end - 1}/${blob.length}` }
  return { status: 206, headers, body: blob.subarray(start, end) }
}

const bodyOf = ({ body }: Answer, misdeed: Misdeed | undefined): Buffer => {
  if (misdeed?.do === 'lie') return misdeed.body
  return misdeed?.do === 'spoil' ? Buffer.from(body.map((byte) => byte ^ 1)) : body
}

const deliver = async (response: ServerResponse, answer: Answer, misdeed: Misdeed | undefined): Promise<void> => {
  const body = bodyOf(answer, misdeed)
  const extra = misdeed?.do === 'lie' || misdeed?.do === 'say' ? misdeed.headers : {}
  response.writeHead(answer.status, { 'content-length': body.length, ...answer.headers, ...extra })
  switch (misdeed?.do) {
    case 'cut':
      await new Promise((resolve) => response.write(body.subarray(0, misdeed.afterBytes), resolve))
      // Let the bytes arrive before the connection breaks.
      await sleep(20)
      response.destroy()
      return
    case 'stall':
      response.write(body.subarray(0, misdeed.afterBytes))
      return
    case 'pause':
      response.write(body.subarray(0, misdeed.afterBytes))
      await misdeed.until()
      response.end(body.subarray(misdeed.afterBytes))
      return
    case 'slow':
      for (let at = 0; at < body.length && !response.destroyed; at += misdeed.pieceBytes) {
        response.write(body.subarray(at, at + misdeed.pieceBytes))
        await sleep(misdeed.pauseMs)
      }
      response.end()
      return
    default:
      response.end(body)
  }
}

const endless = async (response: ServerResponse): Promise<void> => {
  response.writeHead(200)
  const closed = once(response, 'close')
  while (!response.destroyed) {
    if (!response.write(Buffer.alloc(65_536, 0x20))) await Promise.race([once(response, 'drain'), closed])
  }
}
