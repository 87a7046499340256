/**
 * Makes the manifests of layers, one after the other, in a thread of their own, after the commit and when nothing is being unpacked: reading
 * a layer again takes a sixth of the time that unpacking it took, and nobody should wait for that. A crash in between is made up for later.
 */
import { access } from 'node:fs/promises'
import { removeUnfinishedWrites, writeFileAtomic } from '#linux/atomic-file.ts'
import { isKind, messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { manifestIn, treeIn } from '../layout.ts'
import type { WorkerPool } from '../tar/worker-pool.ts'

/** A start has better things to do. */
const LOOK_AFTER_MS = 120_000

export class Manifests {
  readonly #workers: WorkerPool
  readonly #log: Log
  readonly #expected = new Set<string>()
  readonly #looking: NodeJS.Timeout
  #looked: Promise<void> | undefined
  #running: Promise<void> = Promise.resolve()
  #closed = false
  /** Layers that are being unpacked now: they need the processors more. */
  #held = 0
  #waiting: (() => void)[] = []

  constructor(workers: WorkerPool, log: Log) {
    this.#workers = workers
    this.#log = log
    this.#looking = setTimeout(() => void this.#look(), LOOK_AFTER_MS).unref()
  }

  /** Keeps manifests from being begun until disposed of. */
  hold(): Disposable {
    this.#held++
    return {
      [Symbol.dispose]: () => {
        this.#held--
        this.#wake()
      },
    }
  }

  /** Has the manifest of a layer made. `known`: digests of files, by path, that need not be read. */
  make(directory: string, known: ReadonlyMap<string, string> = new Map()): void {
    this.#running = this.#running.then(() => this.#make(directory, known))
  }

  /** Has it made in a while, in case there is none. */
  expect(directory: string): void {
    this.#expected.add(directory)
  }

  /** Resolves when all that were asked for, or are missing since the start, are made. */
  async made(): Promise<void> {
    await this.#look()
    await this.#running
  }

  /** Those not begun are made after the next start. The workers have to be closed before. */
  async close(): Promise<void> {
    this.#closed = true
    this.#wake()
    clearTimeout(this.#looking)
    await this.#running
  }

  /** Once: what is made later is asked for. */
  #look(): Promise<void> {
    this.#looked ??= this.#makeMissing()
    return this.#looked
  }

  async #makeMissing(): Promise<void> {
    for (const directory of this.#expected)
      if (!this.#closed && !(await exists(manifestIn(directory)))) {
        await removeUnfinishedWrites(directory).catch(() => {})
        this.make(directory)
      }
  }

  #wake(): void {
    if (this.#held > 0 && !this.#closed) return
    for (const wake of this.#waiting.splice(0)) wake()
  }

  async #make(directory: string, known: ReadonlyMap<string, string>): Promise<void> {
    while (this.#held > 0 && !this.#closed) await new Promise<void>((wake) => this.#waiting.push(wake))
    if (this.#closed) return
    try {
      const { manifest } = await this.#workers.run('describe', { directory: treeIn(directory), known })
      await writeFileAtomic(manifestIn(directory), manifest, { durable: true })
    } catch (error) {
      // Removed meanwhile, or the daemon ends: nothing to tell of.
      if ((await exists(treeIn(directory))) && !isKind(error, 'unavailable'))
        this.#log.warn('Cannot describe a layer for later checks', { directory, why: messageOf(error) })
    }
  }
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )
