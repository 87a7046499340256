/**
 * The streaming server: gives away URLs, each good for one session, and serves them over HTTP/1.1 to the kubelet, kubectl and
 * crictl. It knows no container; what goes on in one is the backend's.
 */
import {
  createServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerOptions,
  type ServerResponse,
} from 'node:http'
import { createServer as createTlsServer, type Server as HttpsServer } from 'node:https'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { Config } from '../config/schema.ts'
import { admit, NOT_FOUND, pathOf, type Refusal } from './admit.ts'
import { baseUrl, certificateNames } from './listen-address.ts'
import { LiveSessions } from './live-sessions.ts'
import { refuse, refuseUpgrade } from './refuse.ts'
import { serveSession } from './serve-session.ts'
import type { StreamBackend, StreamRequest } from './session.ts'
import { TlsSource } from './tls-material.ts'
import { Tokens } from './tokens.ts'

type StreamingConfig = Config['streaming']

export interface StreamingServer {
  /**
   * The URL at which a client gets what is asked for: once, within a minute.
   * @throws RuntimeError resource-exhausted when too many URLs wait for their clients
   */
  url(request: StreamRequest): string
  /** Takes what can change while sessions go on: limits, and TLS's files, version and ciphers. Address and port stay. */
  reload(config: StreamingConfig): void
  /** Nothing new begins. Sessions may take `graceMs` to end by themselves; what then is left is aborted. */
  close(graceMs: number): Promise<void>
}

export interface StreamingOptions {
  config: StreamingConfig
  backend: StreamBackend
  log: Log
  /** For tests: the monotonic milliseconds by which tokens expire. */
  now?: () => number
}

const TLS_PERIOD_MS = 30_000
/** How long aborted sessions may take to say so to their clients. */
const ABORT_GRACE_MS = 2_000
const KEEP_ALIVE_MS = 30_000

/** For a connection to say what it wants; for TLS also to be agreed on before. */
const FIRST_REQUEST_MS = 10_000

const LIMITS: ServerOptions = {
  // Requests come through proxies, which add to them.
  maxHeaderSize: 65_536,
  // Node's own check of these would run every few seconds, whether or not there are connections.
  headersTimeout: 0,
  requestTimeout: 0,
  connectionsCheckingInterval: 2 ** 31 - 1,
  keepAliveTimeout: 1_000,
  // Several reads of a pipe fit, so that each of them does not stop and start the reading.
  highWaterMark: 262_144,
}

class Server implements StreamingServer {
  readonly #http: HttpServer | HttpsServer
  readonly #backend: StreamBackend
  readonly #log: Log
  readonly #tokens: Tokens
  readonly #sessions = new LiveSessions()
  readonly #sockets = new Set<Duplex>()
  /** Connections whose one request was answered; what follows it on the wire is not listened to. */
  readonly #answered = new WeakSet<Duplex>()
  /** Ends connections that have not asked for anything yet. */
  readonly #late = new WeakMap<Duplex, NodeJS.Timeout>()
  readonly #tls: TlsSource | undefined
  #requiresClient = false
  #tlsTimer: NodeJS.Timeout | undefined
  #config: StreamingConfig
  #base = ''

  constructor({ config, backend, log, now }: StreamingOptions) {
    this.#config = config
    this.#backend = backend
    this.#log = log
    this.#tokens = new Tokens(now)
    if (config.tls.enabled) {
      this.#tls = new TlsSource(certificateNames(config.address))
      const material = this.#tls.fresh(config.tls)
      this.#requiresClient = material?.requiresClient ?? false
      // Whether a certificate is required can change, so it is checked here and not by the handshake.
      const clients = {
        requestCert: true,
        rejectUnauthorized: false,
        ALPNProtocols: ['http/1.1'],
        handshakeTimeout: FIRST_REQUEST_MS,
      }
      const server = createTlsServer({ ...LIMITS, ...material?.options, ...clients })
      server.prependListener('secureConnection', (socket: TLSSocket) => this.#checkClient(socket))
      this.#http = server
    } else this.#http = createServer(LIMITS)
    this.#http.maxConnections = config.maxConnections
    this.#http.on('connection', (socket: Duplex) => {
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
    })
    this.#http.on(this.#tls ? 'secureConnection' : 'connection', (socket: Duplex) => this.#awaitUpgrade(socket))
    this.#http.on('request', (request: IncomingMessage, response: ServerResponse) => this.#answer(request, response))
    this.#http.on('upgrade', (...args: [IncomingMessage, Duplex, Buffer]) => void this.#upgrade(...args))
  }

  async listen(): Promise<void> {
    const { address, port } = this.#config
    await new Promise<void>((resolve, reject) => {
      this.#http.once('error', reject)
      this.#http.listen({ host: address, port, ipv6Only: false }, resolve)
    }).catch((cause) => {
      const what = `Cannot listen for streaming on "${address}" port ${port}: ${messageOf(cause)}`
      throw new RuntimeError('failed-precondition', what, { cause })
    })
    this.#http.on('error', (error: unknown) =>
      this.#log.error('The streaming server failed', { why: messageOf(error) }),
    )
    const bound = this.#http.address()
    this.#base = baseUrl(
      address,
      typeof bound === 'object' && bound !== null ? bound.port : port,
      this.#tls !== undefined,
    )
    if (this.#tls) this.#tlsTimer = setInterval(() => this.#renewTls(), TLS_PERIOD_MS).unref()
  }

  url(request: StreamRequest): string {
    return `${this.#base}${pathOf(request.kind, this.#tokens.issue(request))}`
  }

  reload(config: StreamingConfig): void {
    this.#config = config
    this.#http.maxConnections = config.maxConnections
    this.#renewTls()
  }

  async close(graceMs: number): Promise<void> {
    clearInterval(this.#tlsTimer)
    this.#tokens.clear()
    const closed = new Promise<void>((resolve) => this.#http.close(() => resolve()))
    this.#http.closeIdleConnections()
    if (!(await this.#sessions.empty(graceMs))) {
      this.#sessions.abortAll(new RuntimeError('unavailable', 'The container runtime is stopping'))
      await this.#sessions.empty(ABORT_GRACE_MS)
    }
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  #renewTls(): void {
    try {
      const material = this.#tls?.fresh(this.#config.tls)
      if (material === undefined || !('setSecureContext' in this.#http)) return
      this.#http.setSecureContext(material.options)
      this.#requiresClient = material.requiresClient
      this.#log.info('Took new TLS material for streaming')
    } catch (error) {
      this.#log.error('Cannot take new TLS material for streaming; the old one stays', { why: messageOf(error) })
    }
  }

  #checkClient(socket: TLSSocket): void {
    if (!this.#requiresClient || socket.authorized) return
    this.#log.warn('Turned away a streaming client', { why: String(socket.authorizationError) })
    socket.destroy()
  }

  /** Ordinary requests are answered at once and end the connection: whoever is there after a while has not asked, or does not read. */
  #awaitUpgrade(socket: Duplex): void {
    const late = setTimeout(() => socket.destroy(), FIRST_REQUEST_MS).unref()
    this.#late.set(socket, late)
    socket.once('close', () => clearTimeout(late))
  }

  /** Requests that are no upgrades never get anything but an explanation. */
  #answer(request: IncomingMessage, response: ServerResponse): void {
    this.#answered.add(request.socket)
    request.on('error', () => {})
    response.on('error', () => {})
    const { method = '', url = '', headers } = request
    const admission = admit({ method, url, headers })
    refuse(response, 'token' in admission ? NOT_FOUND : admission)
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => {})
    clearTimeout(this.#late.get(socket))
    if (this.#answered.has(socket)) {
      socket.destroy()
      return
    }
    const { method = '', url = '', headers } = request
    const admission = admit({ method, url, headers })
    if (!('token' in admission)) {
      this.#refuse(socket, admission)
      return
    }
    const asked = this.#tokens.redeem(admission.token, admission.kind)
    if (asked === undefined) {
      this.#refuse(socket, NOT_FOUND)
      return
    }
    if (socket instanceof Socket || socket instanceof TLSSocket) {
      socket.setTimeout(0)
      socket.setNoDelay(true)
      socket.setKeepAlive(true, KEEP_ALIVE_MS)
    }
    const log = this.#log.child({ kind: asked.kind, id: idOf(asked), by: admission.transport })
    const begin = performance.now()
    log.debug('Streaming session begins', { protocol: admission.protocol })
    using session = this.#sessions.open(1_000 * this.#config.idleTimeoutSeconds)
    const options = { backend: this.#backend, session, creationMs: 1_000 * this.#config.creationTimeoutSeconds }
    try {
      const end = await serveSession(asked, admission, { request, socket, head }, options)
      log.debug('Streaming session ended', { end, ms: Math.round(performance.now() - begin) })
      // Its client was told to look here.
      const error = failureOf(end)
      if (error !== undefined && !(error instanceof RuntimeError)) log.error('Streaming session failed', { error })
    } catch (error) {
      socket.destroy()
      log.error('Streaming session failed', { error })
    }
  }

  #refuse(socket: Duplex, refusal: Refusal): void {
    this.#log.debug('Refused a streaming request', { status: refusal.status, why: refusal.text })
    refuseUpgrade(socket, refusal)
  }
}

const failureOf = (end: unknown): unknown =>
  typeof end === 'object' && end !== null && 'error' in end ? end.error : undefined

const idOf = (asked: StreamRequest): string => (asked.kind === 'port-forward' ? asked.sandboxId : asked.containerId)

/**
 * Opens the server and listens.
 * @throws RuntimeError failed-precondition when the address or port cannot be had, invalid-argument for unusable TLS files
 */
export const openStreamingServer = async (options: StreamingOptions): Promise<StreamingServer> => {
  const server = new Server(options)
  await server.listen()
  return server
}
