/**
 * What the daemon is busy with: each operation with its stage and since when (design D8). Operators see it in the verbose
 * Status and by `cricket ops`; nothing here steers anything.
 */

export interface OperationSnapshot {
  /** The RPC, or "Restore". */
  readonly name: string
  /** The id or key of what it works on. */
  readonly object: string
  readonly stage: string
  /** Unix time in milliseconds. */
  readonly startedAtMs: number
  /** When the stage began, Unix time in milliseconds. */
  readonly sinceMs: number
}

/** Told of each stage before its work begins. */
export type StageWatcher = (name: string, stage: string) => void

export class Operation implements Disposable {
  #now: OperationSnapshot
  readonly #watcher: StageWatcher | undefined
  readonly #end: () => void

  constructor(name: string, object: string, watcher: StageWatcher | undefined, end: () => void) {
    const startedAtMs = Date.now()
    this.#now = { name, object, stage: 'begun', startedAtMs, sinceMs: startedAtMs }
    this.#watcher = watcher
    this.#end = end
  }

  get snapshot(): OperationSnapshot {
    return this.#now
  }

  /** The operation is about to do this. */
  enter(stage: string): void {
    this.#now = { ...this.#now, stage, sinceMs: Date.now() }
    this.#watcher?.(this.#now.name, stage)
  }

  [Symbol.dispose](): void {
    this.#end()
  }
}

export class Operations {
  readonly #running = new Set<Operation>()
  readonly #watcher: StageWatcher | undefined

  constructor(watcher?: StageWatcher) {
    this.#watcher = watcher
  }

  /** `using operation = operations.begin('RunPodSandbox', key)` */
  begin(name: string, object: string): Operation {
    const operation: Operation = new Operation(name, object, this.#watcher, () => this.#running.delete(operation))
    this.#running.add(operation)
    return operation
  }

  /** Oldest first. */
  list(): OperationSnapshot[] {
    return [...this.#running].map(({ snapshot }) => snapshot)
  }
}
