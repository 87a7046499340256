/** Pulls in flight as operators see them: what, at which stage, since when, how far. Nothing here steers anything. */

export type PullStage = 'resolving' | 'checking signatures' | 'reading config' | 'fetching layers' | 'recording'

export interface OperationSnapshot {
  /** The reference that is pulled, or the directory that is imported. */
  readonly what: string
  readonly startedAtMs: number
  readonly stage: PullStage
  /** When this stage began, Unix time in milliseconds. */
  readonly sinceMs: number
  readonly layersDone: number
  readonly layersTotal: number
  /** Compressed bytes received by this pull; layers that were there before do not count. */
  readonly bytesReceived: number
}

export class Operation implements Disposable {
  #now: OperationSnapshot
  readonly #end: () => void

  constructor(what: string, end: () => void) {
    const startedAtMs = Date.now()
    this.#end = end
    this.#now = {
      what,
      startedAtMs,
      stage: 'resolving',
      sinceMs: startedAtMs,
      layersDone: 0,
      layersTotal: 0,
      bytesReceived: 0,
    }
  }

  get snapshot(): OperationSnapshot {
    return this.#now
  }

  enter(stage: PullStage): void {
    this.#now = { ...this.#now, stage, sinceMs: Date.now() }
  }

  expectLayers(layersTotal: number): void {
    this.#now = { ...this.#now, layersTotal }
  }

  layerDone(): void {
    this.#now = { ...this.#now, layersDone: this.#now.layersDone + 1 }
  }

  received(bytes: number): void {
    this.#now = { ...this.#now, bytesReceived: this.#now.bytesReceived + bytes }
  }

  [Symbol.dispose](): void {
    this.#end()
  }
}

export class Operations {
  readonly #running = new Set<Operation>()
  readonly #during: () => Disposable

  /** @param during called when an operation begins; what it gives is disposed of when that ends */
  constructor(during: () => Disposable = () => ({ [Symbol.dispose]: () => {} })) {
    this.#during = during
  }

  /** `using operation = operations.start("docker.io/library/busybox:latest")` */
  start(what: string): Operation {
    const during = this.#during()
    const operation: Operation = new Operation(what, () => {
      if (this.#running.delete(operation)) during[Symbol.dispose]()
    })
    this.#running.add(operation)
    return operation
  }

  /** Oldest first. */
  list(): OperationSnapshot[] {
    return [...this.#running].map(({ snapshot }) => snapshot)
  }
}
