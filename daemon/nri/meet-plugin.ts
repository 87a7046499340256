/** The first words with whoever has connected: it registers, then it is configured and says what it wants to know. */
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { RuntimeError } from '#proto/errors.ts'
import {
  Event,
  RegisterPluginRequest,
  UpdateContainersRequest,
  UpdateContainersResponse,
} from '#proto/generated/nri.ts'
import type { Log } from '#proto/log.ts'
import { RUNTIME_NAME, VERSION } from '../version.ts'
import { ALL_EVENTS, eventBit, METHODS, RUNTIME_SERVICE } from './methods.ts'
import { Plugin, type PluginIdentity, pluginName } from './plugin.ts'
import { Peer } from './ttrpc/peer.ts'

/** The version of the interface that is spoken: plugins built with older ones leave out what they do not know. */
const NRI_VERSION = 'v0.12.0'

export interface PluginHost {
  readonly registrationTimeoutMs: number
  readonly requestTimeoutMs: number
  readonly log: Log
  /** @throws RuntimeError already-exists when a plugin of that name is there */
  claim(identity: PluginIdentity, until: Promise<unknown>): void
  /** What a plugin asks for by itself. */
  update(plugin: string, request: UpdateContainersRequest): Promise<UpdateContainersResponse>
}

export interface Newcomer {
  readonly socket: Duplex
  /** Known for plugins that we have started: then what it calls itself does not matter. */
  readonly identity?: PluginIdentity
  readonly config: string
}

/** @throws RuntimeError deadline-exceeded, unavailable when it goes, invalid-argument for what it says of itself */
export async function meetPlugin(newcomer: Newcomer, host: PluginHost): Promise<Plugin> {
  const registered = Promise.withResolvers<PluginIdentity>()
  const words = new FirstWords(newcomer, host, registered.resolve)
  const peer = new Peer(newcomer.socket, (service, method, payload) => words.serve(service, method, payload))
  words.gone = peer.closed
  const timer = new AbortController()
  try {
    const identity = await Promise.race([
      registered.promise,
      goneError(peer),
      tooLate(host.registrationTimeoutMs, timer.signal),
    ])
    const log = host.log.child({ plugin: pluginName(identity) })
    const { requestTimeoutMs } = host
    const first = new Plugin({ identity, peer, events: 0, log, requestTimeoutMs })
    const answer = await first.ask(METHODS.configure, {
      config: newcomer.config,
      runtimeName: RUNTIME_NAME,
      runtimeVersion: VERSION,
      registrationTimeout: BigInt(host.registrationTimeoutMs),
      requestTimeout: BigInt(requestTimeoutMs),
      nriVersion: NRI_VERSION,
    })
    if (!answer) throw new RuntimeError('unavailable', await peer.closed)
    const plugin = new Plugin({ identity, peer, events: subscription(answer.events), log, requestTimeoutMs })
    words.isConfigured = true
    return plugin
  } catch (error) {
    peer.close('it could not be configured')
    throw error
  } finally {
    timer.abort()
  }
}

/** Without a word of its own a plugin gets what does not decide over others. */
function subscription(events: number): number {
  if (events === 0) return ALL_EVENTS & ~eventBit(Event.VALIDATE_CONTAINER_ADJUSTMENT)
  if ((events & ~ALL_EVENTS) === 0) return events
  throw new RuntimeError(
    'invalid-argument',
    `It subscribes to events that there are not (mask 0x${events.toString(16)})`,
  )
}

const goneError = async (peer: Peer): Promise<never> => {
  throw new RuntimeError('unavailable', await peer.closed)
}

const tooLate = async (ms: number, signal: AbortSignal): Promise<never> => {
  await sleep(ms, undefined, { signal }).catch(() => {})
  throw new RuntimeError('deadline-exceeded', `It did not register within ${ms} ms`)
}

/** Answers what the plugin asks of the runtime. */
class FirstWords {
  readonly #newcomer: Newcomer
  readonly #host: PluginHost
  readonly #registered: (identity: PluginIdentity) => void
  #identity: PluginIdentity | undefined
  isConfigured = false
  gone: Promise<unknown> = Promise.resolve()

  constructor(newcomer: Newcomer, host: PluginHost, registered: (identity: PluginIdentity) => void) {
    this.#newcomer = newcomer
    this.#host = host
    this.#registered = registered
  }

  async serve(service: string, method: string, payload: Buffer): Promise<Uint8Array> {
    if (service === RUNTIME_SERVICE && method === 'RegisterPlugin') return this.#register(payload)
    if (service === RUNTIME_SERVICE && method === 'UpdateContainers') return this.#update(payload)
    throw new RuntimeError('unimplemented', `There is no method ${method} in ${service}`)
  }

  #register(payload: Buffer): Uint8Array {
    if (this.#identity) throw new RuntimeError('already-exists', 'This plugin has registered already')
    const asked = RegisterPluginRequest.decode(payload)
    const identity = this.#newcomer.identity ?? checkedIdentity(asked.pluginIdx, asked.pluginName)
    this.#host.claim(identity, this.gone)
    this.#identity = identity
    this.#host.log.info('Plugin registered', { plugin: pluginName(identity), library: asked.nriVersion || 'unknown' })
    this.#registered(identity)
    return new Uint8Array()
  }

  async #update(payload: Buffer): Promise<Uint8Array> {
    if (!this.#identity || !this.isConfigured)
      throw new RuntimeError('failed-precondition', 'A plugin has to register before it asks for updates')
    const response = await this.#host.update(pluginName(this.#identity), UpdateContainersRequest.decode(payload))
    return UpdateContainersResponse.encode(response).finish()
  }
}

const MAX_NAME_CHARACTERS = 253

/** @throws RuntimeError invalid-argument */
export function checkedIdentity(index: string, base: string): PluginIdentity {
  if (!/^\d\d$/.test(index))
    throw new RuntimeError('invalid-argument', `Plugin index "${index.slice(0, 40)}" is not two digits`)
  if (!/^[A-Za-z0-9_.+-]+$/.test(base) || base.length > MAX_NAME_CHARACTERS)
    throw new RuntimeError('invalid-argument', `Plugin name ${JSON.stringify(base.slice(0, 40))} is malformed`)
  return { index, base }
}
