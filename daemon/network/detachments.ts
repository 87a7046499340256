/** The detachments under way and those that failed: who asks again joins, who has to get on is let go, the rest is paid in the background. */
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '#proto/errors.ts'
import type { KeyedLock } from '#storage/keyed-lock.ts'
import { SingleFlight } from '#storage/single-flight.ts'
import type { PodAttachment } from './attachment.ts'
import type { NetworkResult } from './cni-result.ts'
import { Debts, type DebtsOptions, type NetworkDebt } from './debts.ts'
import { detachSandbox } from './detach-sandbox.ts'
import type { Gate } from './gate.ts'
import type { NetworkParts } from './network-parts.ts'

/** How often a caller of release is told of a failure before the background has it. */
const FAILURES_TOLD = 2

const LAST_PATIENCE_MS = 10_000

/** By its id alone a plugin finds what it gave, when the record is too damaged to say more. */
const NAMELESS = { name: '', namespace: '', uid: '', netnsPath: '', portMappings: [], annotations: {} }

export interface DetachmentsOptions {
  parts: NetworkParts
  locks: KeyedLock
  gate: Gate
  pauses?: Pick<DebtsOptions, 'firstPauseMs' | 'longestPauseMs'>
}

export class Detachments {
  readonly #options: DetachmentsOptions
  readonly #flights = new SingleFlight<void>()
  readonly #debts: Debts
  /** Sandboxes that nobody but the background will detach. */
  readonly #left = new Set<string>()

  constructor(options: DetachmentsOptions) {
    this.#options = options
    this.#debts = new Debts({ ...options.pauses, log: options.parts.log, pay: (sandboxId) => this.#pay(sandboxId) })
  }

  /** See PodNetwork.detach. */
  detach(pod: PodAttachment, result?: NetworkResult, signal?: AbortSignal): Promise<void> {
    return this.#flights.run(pod.sandboxId, (own) => this.#detach(pod, result, own), signal)
  }

  /** See PodNetwork.release. */
  async release(pod: PodAttachment, isLast: boolean): Promise<void> {
    const detached = this.detach(pod).then(() => true)
    try {
      // A try that outlasts the patience goes on; its own deadline ends it.
      const patience = isLast ? [sleep(LAST_PATIENCE_MS, false, { ref: false })] : []
      const isDone = await Promise.race([detached, ...patience])
      if (!isDone) this.#leave(pod.sandboxId, `it takes longer than ${LAST_PATIENCE_MS / 1000} s`)
    } catch (error) {
      if (!isLast && this.#debts.failuresOf(pod.sandboxId) <= FAILURES_TOLD) throw error
      this.#leave(pod.sandboxId, messageOf(error))
    }
  }

  /** Nobody will ask for this detachment: starts it in the background. */
  takeOver(sandboxId: string): void {
    this.#left.add(sandboxId)
    this.#debts.take(sandboxId)
  }

  isLeft(sandboxId: string): boolean {
    return this.#left.has(sandboxId)
  }

  /** The sandbox holds nothing any more. */
  isPaid(sandboxId: string): void {
    this.#debts.paid(sandboxId)
    this.#left.delete(sandboxId)
  }

  list(): NetworkDebt[] {
    return this.#debts.list()
  }

  close(reason: unknown): void {
    this.#debts.close()
    void this.#flights.abortAll(reason)
  }

  async #detach(pod: PodAttachment, result: NetworkResult | undefined, signal: AbortSignal): Promise<void> {
    const { parts, locks, gate } = this.#options
    using _ = await locks.take(pod.sandboxId, signal)
    using __ = await gate.enter()
    try {
      await detachSandbox(parts, pod, result, signal)
      this.isPaid(pod.sandboxId)
    } catch (error) {
      this.#debts.failed(pod.sandboxId, error)
      throw error
    }
  }

  async #pay(sandboxId: string): Promise<void> {
    const read = await this.#options.parts.records.read(sandboxId)
    await this.detach(read.state === 'present' ? read.record.attachment : { ...NAMELESS, sandboxId })
  }

  #leave(sandboxId: string, why: string): void {
    const said = 'Go on without having detached the sandbox; that is tried again in the background'
    this.#options.parts.log.warn(said, { sandbox: sandboxId, why })
    this.#left.add(sandboxId)
  }
}
