/**
 * What the plugins of a CNI 1.1 network answer to STATUS, asked in the background: readiness is told from memory, whatever a
 * plugin does.
 */
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { isVersion11, type NetworkConfig } from './cni-config.ts'

/** A network that works is asked rarely, as each time is a process per plugin; one that does not, until it does. */
const WHEN_READY_MS = 30_000
const WHEN_NOT_READY_MS = 2000

export interface PluginStatusOptions {
  /** Runs STATUS of all plugins; throws what is wrong. */
  ask(config: NetworkConfig, signal: AbortSignal): Promise<void>
  current(): NetworkConfig | undefined
  log: Log
  whenReadyMs?: number
  whenNotReadyMs?: number
}

export class PluginStatus {
  readonly #options: Required<PluginStatusOptions>
  readonly #closed = new AbortController()
  #timer: NodeJS.Timeout | undefined
  /** The configuration that the last answer is about. */
  #asked: string | undefined
  #isAsking = false
  #problem: string | undefined

  constructor(options: PluginStatusOptions) {
    this.#options = { whenReadyMs: WHEN_READY_MS, whenNotReadyMs: WHEN_NOT_READY_MS, ...options }
  }

  /** What keeps the network from being ready, of what the plugins said last. */
  problemOf(config: NetworkConfig): string | undefined {
    if (!isVersion11(config)) return undefined
    if (this.#asked !== JSON.stringify(config)) return `network "${config.name}" has not answered STATUS yet`
    return this.#problem
  }

  /** Asks now if the configuration is another one than that of the last answer. */
  configMayHaveChanged(): void {
    const config = this.#options.current()
    if (config !== undefined && isVersion11(config) && JSON.stringify(config) !== this.#asked) this.#askNow()
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#closed.abort()
  }

  #askNow(): void {
    clearTimeout(this.#timer)
    // A running question ends by its own deadline and looks at the configuration again.
    if (!this.#isAsking) void this.#ask()
  }

  async #ask(): Promise<void> {
    const config = this.#options.current()
    if (config === undefined || !isVersion11(config) || this.#closed.signal.aborted) {
      this.#asked = undefined
      return
    }
    const key = JSON.stringify(config)
    this.#isAsking = true
    const problem = await this.#problemNow(config)
    this.#isAsking = false
    if (this.#closed.signal.aborted) return
    if (problem !== this.#problem || this.#asked !== key) this.#tell(config, problem)
    this.#asked = key
    this.#problem = problem
    const { whenReadyMs, whenNotReadyMs } = this.#options
    this.#timer = setTimeout(() => void this.#ask(), problem === undefined ? whenReadyMs : whenNotReadyMs).unref()
    this.configMayHaveChanged()
  }

  async #problemNow(config: NetworkConfig): Promise<string | undefined> {
    try {
      await this.#options.ask(config, this.#closed.signal)
      return undefined
    } catch (error) {
      return messageOf(error)
    }
  }

  #tell({ name }: NetworkConfig, problem: string | undefined): void {
    if (problem === undefined) this.#options.log.info('Pod network answers STATUS: ready', { network: name })
    else this.#options.log.warn('Pod network answers STATUS: not ready', { network: name, why: problem })
  }
}
