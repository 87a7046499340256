/** The control socket: who may connect, who is connected, and the way of requests, replies and events (proto/conmon.ts). */
import { chmodSync, closeSync, rmSync } from 'node:fs'
import { readable } from '#linux/epoll.ts'
import { acceptUnix, listenUnix, peerUserId } from '#linux/unix-socket.ts'
import {
  decodeObject,
  type Event,
  encodeMessage,
  type Frame,
  frameTypes,
  type MonitorStatus,
  protocolVersion,
  type Reply,
  type Request,
} from '#proto/conmon.ts'
import { Connection, type ConnectionOwner } from './connection.ts'
import { failureOf, MonitorFailure } from './failure.ts'
import { parseRequest } from './parse-request.ts'
import type { Reactor } from './reactor.ts'

const maxConnections = 256

/** A reply without the id of its request. */
export type Answer = Reply extends infer R ? (R extends Reply ? Omit<R, 'id'> : never) : never

export interface RequestHandler {
  status(): MonitorStatus
  /** @throws MonitorFailure */
  handle(request: Request, from: Connection): Promise<Answer> | Answer
  /** Input for the container. @throws MonitorFailure when the client may not send any */
  takeInput(payload: Buffer, from: Connection): void
  /** Somebody has proved to be the daemon. */
  clientCame(): void
  /** A client has gone; `last` when no other is left. */
  clientGone(client: Connection, last: boolean): void
}

export class ControlServer implements ConnectionOwner {
  readonly #reactor: Reactor
  readonly #path: string
  readonly #cookie: Buffer
  readonly #handler: RequestHandler
  readonly #fd: number
  /** Value: whether the client has shown the cookie. */
  readonly #connections = new Map<Connection, boolean>()
  readonly #answering = new Set<Promise<void>>()

  /** @throws LinuxError EADDRINUSE when another monitor has been launched there */
  constructor(reactor: Reactor, path: string, cookie: string, handler: RequestHandler) {
    this.#reactor = reactor
    this.#path = path
    this.#cookie = Buffer.from(cookie)
    this.#handler = handler
    this.#fd = listenUnix(path)
    chmodSync(path, 0o600)
    reactor.add(this.#fd, readable, () => this.#accept())
  }

  /** Tells every client. */
  broadcast(event: Event): void {
    const frame = encodeMessage('event', event)
    for (const [connection, known] of this.#connections) if (known) connection.send(frame)
  }

  /** Resolves when every request has been answered. */
  async whenAnswered(): Promise<void> {
    while (this.#answering.size > 0) await Promise.all(this.#answering)
  }

  /** Says good-bye; resolves when every client has read all that was sent to it, and has gone. */
  async finish(): Promise<void> {
    const connections = [...this.#connections.keys()]
    for (const connection of connections) connection.finish()
    await Promise.all(connections.map((connection) => connection.whenClosed()))
  }

  close(): void {
    this.#reactor.remove(this.#fd)
    closeSync(this.#fd)
    rmSync(this.#path, { force: true })
    for (const connection of this.#connections.keys()) connection.close()
  }

  received(connection: Connection, frame: Frame): void {
    if (frame.type === frameTypes.hello) this.#hello(connection, frame)
    else if (this.#connections.get(connection) !== true) throw new MonitorFailure('permission-denied', 'no hello')
    else if (frame.type === frameTypes.request) this.#request(connection, frame)
    else if (frame.type === frameTypes.stdin) this.#handler.takeInput(frame.payload, connection)
  }

  dropped(connection: Connection): void {
    this.#handler.clientGone(connection, false)
  }

  closed(connection: Connection): void {
    this.#connections.delete(connection)
    this.#handler.clientGone(connection, this.#connections.size === 0)
  }

  #accept(): void {
    for (;;) {
      const fd = acceptUnix(this.#fd)
      if (fd === undefined) return
      if (peerUserId(fd) !== process.geteuid?.() || !this.#hasRoom()) closeSync(fd)
      else {
        this.#reactor.expectMore()
        this.#connections.set(new Connection(this.#reactor, fd, this), false)
      }
    }
  }

  /** Makes room at the cost of whoever has been silent for longest: the daemon must always be able to come in. */
  #hasRoom(): boolean {
    if (this.#connections.size < maxConnections) return true
    const [silent] = [...this.#connections].find(([, known]) => !known) ?? []
    silent?.close()
    return silent !== undefined
  }

  #hello(connection: Connection, frame: Frame): void {
    const cookie = decodeObject(frame.payload)?.cookie
    if (typeof cookie !== 'string' || !this.#isCookie(Buffer.from(cookie))) {
      const failure = { kind: 'permission-denied', message: 'The cookie is not that of this container' } as const
      connection.send(encodeMessage('reply', { id: 0, reply: 'failed', failure }))
      connection.finish()
      return
    }
    this.#connections.set(connection, true)
    this.#reactor.expectMore()
    const status = this.#handler.status()
    connection.send(encodeMessage('welcome', { protocol: protocolVersion, pid: process.pid, status }))
    this.#handler.clientCame()
  }

  #isCookie(given: Buffer): boolean {
    // Takes the same time wherever they differ. The crypto module would do it too, for 1.5 MB of every monitor.
    let difference = given.length ^ this.#cookie.length
    for (const [place, byte] of given.entries()) difference |= byte ^ (this.#cookie[place] ?? 0)
    return difference === 0
  }

  #request(connection: Connection, frame: Frame): void {
    const { id, request, failure } = parseRequest(frame.payload)
    this.#reactor.expectNoMore()
    const answer = request === undefined ? Promise.reject(failure) : this.#answer(request, connection)
    const answering = answer
      .catch((error: unknown): Answer => ({ reply: 'failed', failure: failureOf(error) }))
      .then((done) => {
        connection.send(encodeMessage('reply', { id, ...done }))
        this.#answering.delete(answering)
      })
    this.#answering.add(answering)
  }

  async #answer(request: Request, from: Connection): Promise<Answer> {
    return this.#handler.handle(request, from)
  }
}
