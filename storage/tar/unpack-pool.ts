/** The processes that unpack layers: started on demand, used again for the next layer, ended when idle. One layer each at a time. */
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Growth } from '../growth.ts'
import type { FromUnpacker, UnpackedLayer, UnpackRequest } from './unpack-messages.ts'
import { type UnpackPlaces, UnpackProcess, type UnpackProgram, unpackProgram } from './unpack-process.ts'
import { workerError } from './worker-errors.ts'

export interface UnpackPoolOptions {
  /** How many layers are unpacked at once. */
  readonly size: number
  /** How long a process without work lives. */
  readonly idleMs: number
  readonly program?: UnpackProgram
  /** How long one that is told to stop may go on. */
  readonly cancelMs?: number
  /** Called every now and then while there is much that is not on the disk. */
  readonly onWritten?: () => void
}

/** What to unpack; `growth` is of the blob's file. */
export type UnpackTask = Omit<UnpackRequest, 'available'> & { readonly growth: Growth }

/** The blob's bytes are not those of its digest: it is to be fetched again. */
export class WrongBlob extends RuntimeError {
  constructor(message: string) {
    super('failed-precondition', message)
  }
}

/** The blob arrives so slowly that others had to go first: to be unpacked when it is whole. */
export class TrickledIn extends Error {}

interface Task {
  readonly task: UnpackTask
  readonly result: PromiseWithResolvers<UnpackedLayer>
}

interface Running {
  readonly task: Task
  readonly growth: Disposable
  /** Since it was told to stop. */
  stopped: { readonly error: unknown; readonly deadline: NodeJS.Timeout } | undefined
}

interface Slot {
  readonly process: UnpackProcess
  running: Running | undefined
  idle: NodeJS.Timeout | undefined
}

const CANCEL_MS = 5_000
/** What arrives faster than so much in such a time may keep others waiting. */
const PATIENCE_MS = 1_000
const LEAST_BYTES = 2 ** 20
/** Telling of each piece that arrives would cost more than it saves. */
const TELL_BYTES = 256 * 1024

export class UnpackPool {
  readonly places: UnpackPlaces
  readonly #options: UnpackPoolOptions
  readonly #slots = new Set<Slot>()
  readonly #queue: Task[] = []
  #closed = false
  #patience: NodeJS.Timeout | undefined

  constructor(places: UnpackPlaces, options: UnpackPoolOptions) {
    this.places = places
    this.#options = options
  }

  /** How many processes there are. */
  get processes(): number {
    return this.#slots.size
  }

  /**
   * Unpacks a blob into an empty directory, and verifies blob and archive as it goes. Follows the file while it grows. Aborting, and a growth that
   * fails, make it stop soon. Throws WrongBlob; failed-precondition for a broken, lying or hostile archive, resource-exhausted for too big a one or
   * a full disk.
   */
  async run(task: UnpackTask, signal?: AbortSignal): Promise<UnpackedLayer> {
    await task.growth.begun()
    if (task.growth.failure !== undefined) throw task.growth.failure.error
    signal?.throwIfAborted()
    if (this.#closed) throw closing()
    const queued: Task = { task, result: Promise.withResolvers() }
    const stop = (error: unknown): void => this.#stop(queued, error)
    const onAbort = (): void => stop(signal?.reason)
    signal?.addEventListener('abort', onAbort, { once: true })
    using _ = task.growth.onChange(() => {
      if (task.growth.failure !== undefined) stop(task.growth.failure.error)
    })
    try {
      this.#queue.push(queued)
      this.#dispatch()
      this.#preempt()
      return await queued.result.promise
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  /** Ends all processes, whatever they do. */
  async close(): Promise<void> {
    this.#closed = true
    for (const { result } of this.#queue.splice(0)) result.reject(closing())
    const slots = [...this.#slots]
    for (const slot of slots) {
      slot.process.hold(true)
      this.#kill(slot, closing())
    }
    await Promise.all(slots.map(({ process }) => process.ended))
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const free = [...this.#slots].find(({ running }) => running === undefined)
      if (free === undefined && this.#slots.size >= this.#options.size) return
      const next = this.#queue.shift()
      if (next === undefined) return
      try {
        perform(free ?? this.#start(), next)
      } catch (cause) {
        next.result.reject(new RuntimeError('internal', `Cannot start to unpack: ${messageOf(cause)}`, { cause }))
      }
    }
  }

  /** While others wait, whose blob trickles in gives up its place and comes again when the blob is whole. */
  #preempt(): void {
    if (this.#queue.length === 0 || this.#patience !== undefined) return
    const before = [...this.#slots].map(({ running }) => ({ running, bytes: running?.task.task.growth.available ?? 0 }))
    this.#patience = setTimeout(() => {
      this.#patience = undefined
      for (const { running, bytes } of before) {
        if (running === undefined || this.#queue.length === 0) continue
        const { growth } = running.task.task
        if (!growth.isWhole && growth.available - bytes < LEAST_BYTES) this.#stop(running.task, new TrickledIn())
      }
      this.#preempt()
    }, PATIENCE_MS).unref()
  }

  #start(): Slot {
    const process = new UnpackProcess(this.#options.program ?? unpackProgram(), this.places, (reply) => {
      this.#finish(slot, reply)
    })
    const slot: Slot = { process, running: undefined, idle: undefined }
    this.#slots.add(slot)
    void process.ended.then((lastWords) => {
      this.#kill(slot, new RuntimeError('internal', `The process that unpacks has ended: ${JSON.stringify(lastWords)}`))
      this.#dispatch()
    })
    return slot
  }

  #finish(slot: Slot, reply: FromUnpacker): void {
    const { running, process } = slot
    if (running === undefined) return
    if (reply.is === 'wrote-much') {
      this.#options.onWritten?.()
      return
    }
    running.growth[Symbol.dispose]()
    slot.running = undefined
    if (reply.is === 'unpacked') running.task.result.resolve(reply.layer)
    else running.task.result.reject(running.stopped?.error ?? errorOf(reply))
    clearTimeout(running.stopped?.deadline)
    process.hold(false)
    slot.idle = setTimeout(() => this.#kill(slot, closing()), this.#options.idleMs).unref()
    this.#dispatch()
  }

  /** Nobody wants it any more: the process goes on to the next one, or is killed when it does not stop. */
  #stop(task: Task, error: unknown): void {
    const place = this.#queue.indexOf(task)
    if (place >= 0) {
      this.#queue.splice(place, 1)
      task.result.reject(error)
      return
    }
    const slot = [...this.#slots].find(({ running }) => running?.task === task)
    if (slot?.running === undefined || slot.running.stopped !== undefined) return
    const deadline = setTimeout(() => this.#kill(slot, error), this.#options.cancelMs ?? CANCEL_MS)
    slot.running.stopped = { error, deadline }
    slot.process.send({ cancel: true })
  }

  /** Its task fails with this error, unless it was stopped before. */
  #kill(slot: Slot, error: unknown): void {
    const { running } = slot
    slot.running = undefined
    this.#slots.delete(slot)
    clearTimeout(slot.idle)
    clearTimeout(running?.stopped?.deadline)
    slot.process.kill()
    running?.growth[Symbol.dispose]()
    // Not before it is gone: what it was making is removed next.
    if (running !== undefined)
      void slot.process.ended.then(() => running.task.result.reject(running.stopped?.error ?? error))
  }
}

/** Hands it over, and tells of what arrives meanwhile. */
const perform = (slot: Slot, task: Task): void => {
  const { growth, ...request } = task.task
  const { process } = slot
  clearTimeout(slot.idle)
  process.hold(true)
  let told = growth.available
  process.send({ unpack: { ...request, available: told } })
  const tell = (): void => {
    if (growth.available - told < TELL_BYTES && !growth.isWhole) return
    told = growth.available
    process.send({ available: told })
  }
  slot.running = { task, growth: growth.onChange(tell), stopped: undefined }
}

const errorOf = (reply: Exclude<FromUnpacker, { is: 'unpacked' | 'wrote-much' }>): RuntimeError =>
  reply.is === 'wrong-blob' ? new WrongBlob(reply.message) : workerError(reply, 'unpack')

const closing = (): RuntimeError => new RuntimeError('unavailable', 'Storage is closing')
