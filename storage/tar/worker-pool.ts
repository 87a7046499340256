/** Worker threads for jobs on trees: started on demand, kept warm for a while, ended when idle because each costs 7 MB. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { isErrno } from '#linux/errno.ts'
import { type ErrorKind, messageOf, RuntimeError } from '#proto/errors.ts'
import { workerError } from './worker-errors.ts'
import type { JobName, ReplyOf, RequestOf, WorkerReply, WorkerRequest } from './worker-jobs.ts'

export interface WorkerPoolOptions {
  /** How many jobs run at once. */
  readonly size: number
  /** How long a worker without a job lives. */
  readonly idleMs: number
}

interface Task {
  readonly message: WorkerRequest
  readonly resolve: (reply: ReplyOf<JobName>) => void
  readonly reject: (error: unknown) => void
}

interface Slot {
  readonly worker: Worker
  task: Task | undefined
  idle: NodeJS.Timeout | undefined
}

/** The bundle has the worker beside it; sources run the .ts file. */
const workerEntry = (): string => {
  const bundled = join(import.meta.dirname, 'tree-worker.cjs')
  return existsSync(bundled) ? bundled : join(import.meta.dirname, 'tree-worker.ts')
}

const HEAP_MIB = 512
const YOUNG_HEAP_MIB = 8

export class WorkerPool {
  readonly #options: WorkerPoolOptions
  readonly #slots = new Set<Slot>()
  readonly #queue: Task[] = []
  #closed = false

  constructor(options: WorkerPoolOptions) {
    this.#options = options
  }

  /** How many threads there are at this moment. */
  get workers(): number {
    return this.#slots.size
  }

  /** Runs a job. Aborting makes it stop soon and reject with kind cancelled; the worker lives on. */
  async run<N extends JobName>(job: N, request: RequestOf<N>, signal?: AbortSignal): Promise<ReplyOf<N>> {
    signal?.throwIfAborted()
    const cancel = new Int32Array(new SharedArrayBuffer(4))
    const onAbort = (): void => void Atomics.store(cancel, 0, 1)
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      return (await this.#enqueue({ job, request, cancel } as WorkerRequest)) as ReplyOf<N>
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  /** Ends all workers, whatever they do. */
  async close(): Promise<void> {
    this.#closed = true
    for (const task of this.#queue.splice(0)) task.reject(closing())
    await Promise.all([...this.#slots].map((slot) => this.#end(slot)))
  }

  #enqueue(message: WorkerRequest): Promise<ReplyOf<JobName>> {
    if (this.#closed) return Promise.reject(closing())
    return new Promise((resolve, reject) => {
      this.#queue.push({ message, resolve, reject })
      this.#dispatch()
    })
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const slot = [...this.#slots].find(({ task }) => task === undefined) ?? this.#start()
      if (slot === undefined) return
      const task = this.#queue.shift()
      if (task === undefined) return
      clearTimeout(slot.idle)
      slot.task = task
      slot.worker.ref()
      slot.worker.postMessage(task.message)
    }
  }

  #start(): Slot | undefined {
    if (this.#slots.size >= this.#options.size) return undefined
    const worker = new Worker(workerEntry(), {
      name: 'trees',
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB, maxYoungGenerationSizeMb: YOUNG_HEAP_MIB },
      env: {},
    })
    const slot: Slot = { worker, task: undefined, idle: undefined }
    this.#slots.add(slot)
    worker.on('message', (reply: WorkerReply) => this.#finish(slot, reply))
    worker.on('error', (error: unknown) => this.#fail(slot, error))
    worker.on('exit', () => this.#fail(slot, new Error('Worker ended unexpectedly')))
    return slot
  }

  #finish(slot: Slot, reply: WorkerReply): void {
    const { task } = slot
    slot.task = undefined
    slot.worker.unref()
    if (reply.ok) task?.resolve(reply.reply)
    else task?.reject(workerError(reply, task.message.job))
    slot.idle = setTimeout(() => void this.#end(slot), this.#options.idleMs).unref()
    this.#dispatch()
  }

  #fail(slot: Slot, error: unknown): void {
    if (!this.#slots.delete(slot)) return
    clearTimeout(slot.idle)
    const outOfMemory = isErrno(error, 'ERR_WORKER_OUT_OF_MEMORY')
    const kind: ErrorKind = outOfMemory ? 'resource-exhausted' : 'internal'
    slot.task?.reject(new RuntimeError(kind, `Worker for trees failed: ${messageOf(error)}`, { cause: error }))
    this.#dispatch()
  }

  async #end(slot: Slot): Promise<void> {
    this.#slots.delete(slot)
    clearTimeout(slot.idle)
    slot.task?.reject(closing())
    await slot.worker.terminate()
  }
}

const closing = (): RuntimeError => new RuntimeError('unavailable', 'Storage is closing')
