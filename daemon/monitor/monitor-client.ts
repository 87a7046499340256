/** A daemon's connection to one monitor: requests with deadlines, and the two ways it ends. Reconnecting is the caller's business. */
import type { Socket } from 'node:net'
import type { ProcessIdentity } from '#linux/proc.ts'
import { monotonicMs } from '#linux/realtime.ts'
import {
  type ExitRecord,
  encodeMessage,
  type Frame,
  type FrameReader,
  frameTypes,
  type Request,
} from '#proto/conmon.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { type AttachStream, type AttachWanted, attachOn } from './attach-client.ts'
import { decode, Event, type MonitorStatus, Reply } from './messages.ts'
import { type Greeted, greetMonitor } from './monitor-socket.ts'

export type { AttachEnd, AttachStream, AttachWanted } from './attach-client.ts'
export type { MonitorStatus } from './messages.ts'

/** For what a monitor does at once; it may still wait for a slow disk. */
const promptTimeoutMs = 10_000
/** A monitor that answers at the last moment is still heard. */
const marginMs = 500
/** The runtime's own deadline is the monitor's; the rest is for cleaning up behind it. */
const cleanUpTimeoutMs = 20_000

export interface ConnectInput {
  readonly dir: string
  readonly cookie: string
  readonly log: Log
  readonly signal?: AbortSignal
  /** As in the monitor's options: how long the runtime may take to create or start. Four minutes when not given. */
  readonly runtimeTimeoutMs?: number
}

// Distributes over the union, which a plain Omit would flatten.
type Asked = Request extends infer R ? (R extends Request ? Omit<R, 'id'> : never) : never

interface Pending {
  resolve(reply: Reply): void
  reject(error: RuntimeError): void
}

export class MonitorClient {
  /** The monitor's own process. */
  readonly pid: number
  /** How things stood when the connection was made. */
  readonly statusAtConnect: MonitorStatus
  /** Resolves when the container has ended and its record is on disk. Never rejects; pending for ever after `close`. */
  readonly exited: Promise<ExitRecord>
  /** Resolves when the connection breaks without word of an exit. Never rejects; pending for ever after `close`. */
  readonly lost: Promise<void>
  readonly #socket: Socket
  readonly #frames: FrameReader
  readonly #log: Log
  readonly #input: ConnectInput
  readonly #runtimeTimeoutMs: number
  readonly #pending = new Map<number, Pending>()
  readonly #closed: Promise<void>
  #nextId = 1
  #dropped = false
  #knowsExit = false
  #exit: (record: ExitRecord) => void = () => {}

  private constructor({ socket, welcome, frames, early }: Greeted, input: ConnectInput) {
    const { log, runtimeTimeoutMs = 240_000 } = input
    this.#input = input
    this.pid = welcome.pid
    this.statusAtConnect = welcome.status
    this.#socket = socket
    this.#frames = frames
    this.#log = log
    this.#runtimeTimeoutMs = runtimeTimeoutMs
    this.exited = new Promise((resolve) => {
      this.#exit = (record) => {
        this.#knowsExit = true
        resolve(record)
      }
    })
    this.#closed = new Promise((resolve) => socket.once('close', () => resolve()))
    this.lost = this.#closed.then(() => this.#whenClosed())
    if (welcome.status.state === 'ended') this.#exit(welcome.status.record)
    socket.on('error', (error) => log.debug('Connection to a monitor failed', { why: messageOf(error) }))
    for (const frame of early) this.#received(frame)
    socket.on('data', (bytes: Buffer) => this.#data(bytes))
    socket.resume()
  }

  /** @throws RuntimeError unavailable when nobody listens there, permission-denied for a wrong cookie */
  static async connect(input: ConnectInput): Promise<MonitorClient> {
    return new MonitorClient(await greet(input), input)
  }

  /**
   * Has the runtime create the container of the bundle.
   * @throws RuntimeError failed-precondition when its command cannot be executed, deadline-exceeded, internal; the monitor then exits
   */
  async create(): Promise<ProcessIdentity> {
    const reply = await this.#ask({ request: 'create' }, this.#runtimeTimeoutMs + cleanUpTimeoutMs)
    if (reply.reply === 'created') return reply.init
    throw unexpected('create', reply)
  }

  /** @throws RuntimeError as `create` does; the monitor stays */
  async start(): Promise<void> {
    await this.#ask({ request: 'start' }, this.#runtimeTimeoutMs + cleanUpTimeoutMs)
  }

  async status(): Promise<MonitorStatus> {
    const reply = await this.#ask({ request: 'status' }, promptTimeoutMs)
    if (reply.reply === 'status') return reply.status
    throw unexpected('status', reply)
  }

  /** Returns when a new file of the log's name is there and in use. After an error the old one is, and there is no new one. */
  async reopenLog(): Promise<void> {
    const notAfter = monotonicMs() + promptTimeoutMs - marginMs
    await this.#ask({ request: 'reopen-log', notAfter }, promptTimeoutMs)
  }

  /**
   * Attaches to the container, on a connection of its own: see `AttachStream`. Any number of times; one of them at most with `stdin`.
   * @throws RuntimeError failed-precondition when nothing runs, or the input is not there, closed, or in use; unavailable
   */
  async attach(wanted: AttachWanted, signal?: AbortSignal): Promise<AttachStream> {
    const { dir, cookie, log } = this.#input
    return attachOn(await greet({ dir, cookie, log, ...(signal && { signal }) }), wanted)
  }

  /** Sizes in characters. */
  async resize({ width, height }: { width: number; height: number }): Promise<void> {
    await this.#ask({ request: 'resize', width, height }, promptTimeoutMs)
  }

  async closeStdin(): Promise<void> {
    await this.#ask({ request: 'close-stdin' }, promptTimeoutMs)
  }

  /** Ends a monitor whose container was never created, is being created, or is gone; nothing happens when it has gone itself. Drops the connection. */
  async shutdown(): Promise<void> {
    if (this.#socket.destroyed) return
    const asked = this.#ask({ request: 'shutdown' }, cleanUpTimeoutMs)
    this.#dropped = true
    try {
      // A monitor that is about to end still writes into the container's directory.
      await Promise.race([asked.then(() => within(this.#closed, promptTimeoutMs)), this.#closed])
    } catch (error) {
      if (!this.#socket.destroyed) throw error
    } finally {
      this.close()
    }
  }

  /** Drops the connection; the monitor goes on. */
  close(): void {
    this.#dropped = true
    this.#socket.destroy()
  }

  #whenClosed(): Promise<void> | undefined {
    for (const { reject } of this.#pending.values())
      reject(new RuntimeError('unavailable', `Monitor ${this.pid} has gone`))
    this.#pending.clear()
    return this.#dropped || this.#knowsExit ? new Promise(() => {}) : undefined
  }

  #ask(asked: Asked, timeoutMs: number): Promise<Reply> {
    if (this.#socket.destroyed) throw new RuntimeError('unavailable', `Monitor ${this.pid} has gone`)
    const id = this.#nextId++
    return new Promise<Reply>((resolve, reject) => {
      const late = setTimeout(() => {
        this.#pending.delete(id)
        reject(
          new RuntimeError(
            'deadline-exceeded',
            `Monitor ${this.pid} did not answer "${asked.request}" in ${timeoutMs} ms`,
          ),
        )
      }, timeoutMs)
      this.#pending.set(id, {
        resolve: (reply) => {
          clearTimeout(late)
          resolve(reply)
        },
        reject: (error) => {
          clearTimeout(late)
          reject(error)
        },
      })
      this.#socket.write(encodeMessage('request', { id, ...asked }))
    })
  }

  #data(bytes: Buffer): void {
    try {
      for (const frame of this.#frames.read(bytes)) this.#received(frame)
    } catch (error) {
      this.#log.error('Monitor says what is not understood; dropping the connection', {
        monitor: this.pid,
        why: messageOf(error),
      })
      this.#socket.destroy()
    }
  }

  #received({ type, payload }: Frame): void {
    if (type === frameTypes.reply) this.#replied(decode(Reply, payload, 'reply'))
    else if (type === frameTypes.event) {
      const event = decode(Event, payload, 'event')
      if (event.event === 'exited') this.#exit(event.record)
    }
  }

  #replied(reply: Reply): void {
    const pending = this.#pending.get(reply.id)
    this.#pending.delete(reply.id)
    if (reply.reply === 'failed') pending?.reject(new RuntimeError(reply.failure.kind, reply.failure.message))
    else pending?.resolve(reply)
  }
}

async function greet(input: ConnectInput): Promise<Greeted> {
  const late = AbortSignal.timeout(promptTimeoutMs)
  const signal = input.signal === undefined ? late : AbortSignal.any([late, input.signal])
  try {
    return await greetMonitor(input.dir, input.cookie, signal)
  } catch (cause) {
    if (!late.aborted || input.signal?.aborted) throw cause
    throw new RuntimeError('deadline-exceeded', `Monitor in "${input.dir}" does not answer`, { cause })
  }
}

async function within(promise: Promise<void>, timeoutMs: number): Promise<void> {
  let late: NodeJS.Timeout | undefined
  const deadline = new Promise<void>((resolve) => {
    late = setTimeout(resolve, timeoutMs)
  })
  await Promise.race([promise, deadline])
  clearTimeout(late)
}

const unexpected = (request: string, reply: Reply): RuntimeError =>
  new RuntimeError('internal', `Monitor answered "${request}" with "${reply.reply}"`)
