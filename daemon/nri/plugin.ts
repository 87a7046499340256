/** One plugin that has registered: what it wants to know, and how it is asked. */
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Event, Container as NriContainer, PodSandbox } from '#proto/generated/nri.ts'
import type { Log } from '#proto/log.ts'
import { eventBit, METHODS, type Method, PLUGIN_SERVICE } from './methods.ts'
import { CODE, type Peer, PeerRefused } from './ttrpc/peer.ts'

export interface PluginIdentity {
  /** Two digits. */
  readonly index: string
  readonly base: string
}

/** "10-logger": what people and other plugins call it. */
export const pluginName = ({ index, base }: PluginIdentity): string => `${index}-${base}`

export class Plugin {
  readonly identity: PluginIdentity
  readonly name: string
  readonly #peer: Peer
  readonly #events: number
  readonly #log: Log
  readonly #requestTimeoutMs: number
  readonly #told = new Set<string>()

  constructor(options: {
    identity: PluginIdentity
    peer: Peer
    events: number
    log: Log
    requestTimeoutMs: number
  }) {
    this.identity = options.identity
    this.name = pluginName(options.identity)
    this.#peer = options.peer
    this.#events = options.events
    this.#log = options.log
    this.#requestTimeoutMs = options.requestTimeoutMs
  }

  wants(event: Event): boolean {
    return (this.#events & eventBit(event)) !== 0
  }

  get isGone(): boolean {
    return this.#peer.isClosed
  }

  /** Resolves with the reason once it has gone. */
  get gone(): Promise<string> {
    return this.#peer.closed
  }

  dismiss(why: string): void {
    this.#peer.close(why)
  }

  /**
   * @returns undefined when the plugin has gone, or goes because it is too slow or answers what cannot be understood: then it is
   *   as if it had never been asked
   * @throws RuntimeError failed-precondition when the plugin says no
   */
  async ask<Q, A>(method: Method<Q, A>, request: Q, timeoutMs = this.#requestTimeoutMs): Promise<A | undefined> {
    try {
      const answer = await this.#call(method, request, timeoutMs)
      return method.answer.decode(answer)
    } catch (error) {
      if (error instanceof PeerRefused) {
        throw new RuntimeError(
          'failed-precondition',
          `NRI plugin "${this.name}" refuses ${method.name}: ${error.message}`,
        )
      }
      this.dismiss(messageOf(error))
      return undefined
    }
  }

  async #call<Q, A>(method: Method<Q, A>, request: Q, timeoutMs: number): Promise<Buffer> {
    const bytes = method.request.encode(request).finish()
    try {
      return await this.#peer.call(PLUGIN_SERVICE, method.name, bytes, timeoutMs)
    } catch (error) {
      const isUnknown = error instanceof PeerRefused && error.code === CODE.unimplemented
      if (!isUnknown || !method.isStateChange || method.event === undefined) throw error
      return this.#changeOfState(method.name, method.event, bytes, timeoutMs)
    }
  }

  /** Pod and container have the same places in all of these requests. */
  async #changeOfState(name: string, event: Event, bytes: Uint8Array, timeoutMs: number): Promise<Buffer> {
    if (!this.#told.has(name)) this.#log.info('A plugin of an older version is told by StateChange', { event: name })
    this.#told.add(name)
    const { pod, container } = METHODS.postCreate.request.decode(bytes)
    const change = stateChange(event, pod, container)
    return this.#peer.call(PLUGIN_SERVICE, METHODS.stateChange.name, change, timeoutMs)
  }
}

const stateChange = (event: Event, pod: PodSandbox | undefined, container: NriContainer | undefined): Uint8Array =>
  METHODS.stateChange.request.encode({ event, pod, container }).finish()
