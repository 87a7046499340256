/**
 * The plugins that are there, asked one after the other in the order of their index, one event at a time: plugins are written for
 * that. Whoever joins waits for its turn like an event, so that what it is told of the node and what it is told later meet without
 * a gap and without repetition. With nobody there and nobody joining, nothing waits and nothing is made.
 */
import { RuntimeError } from '#proto/errors.ts'
import type { ContainerUpdate, Event } from '#proto/generated/nri.ts'
import type { Log } from '#proto/log.ts'
import type { EventMethod } from './methods.ts'
import { type Plugin, type PluginIdentity, pluginName } from './plugin.ts'
import { type Snapshot, synchronize } from './synchronize.ts'

export interface PluginsOptions {
  readonly log: Log
  /** How long a plugin may take to understand what there is. */
  readonly synchronizeTimeoutMs: number
  snapshot(): Promise<Snapshot>
  /** What a plugin wants changed in answer to what it was told. */
  apply(updates: readonly ContainerUpdate[], plugin: string): Promise<void>
}

export class Plugins {
  readonly #options: PluginsOptions
  readonly #names = new Set<string>()
  #active: Plugin[] = []
  #joining = 0
  #tail: Promise<unknown> = Promise.resolve()

  constructor(options: PluginsOptions) {
    this.#options = options
  }

  /** Whether anybody has to hear of such an event, or may have to once it has joined. */
  wants(...events: Event[]): boolean {
    return this.#joining > 0 || this.#active.some((plugin) => !plugin.isGone && events.some((e) => plugin.wants(e)))
  }

  /** Those who are there now, in their order; to be called from a turn. */
  get active(): readonly Plugin[] {
    this.#active = this.#active.filter((plugin) => !plugin.isGone)
    return this.#active
  }

  /** @throws RuntimeError already-exists */
  claim(identity: PluginIdentity, until: Promise<unknown>): void {
    const name = pluginName(identity)
    if (this.#names.has(name)) throw new RuntimeError('already-exists', `A plugin "${name}" is connected already`)
    this.#names.add(name)
    void until.then(() => this.#names.delete(name))
  }

  /** Runs when everything that came before has been told. */
  turn<T>(act: () => Promise<T>): Promise<T> {
    const run = this.#tail.then(act)
    this.#tail = run.catch(() => {})
    return run
  }

  /** Tells everybody who wants to know. @throws RuntimeError failed-precondition with the first who says no */
  async tell<Q, A>(method: EventMethod<Q, A>, request: Q, heard?: (answer: A, plugin: Plugin) => void): Promise<void> {
    for (const plugin of this.active) {
      if (!plugin.wants(method.event)) continue
      const answer = await plugin.ask(method, request)
      if (answer !== undefined) heard?.(answer, plugin)
    }
  }

  /** Makes a configured plugin one of us. @throws RuntimeError when it does not get that far */
  async join(plugin: Plugin): Promise<void> {
    this.#joining++
    try {
      const updates = await this.turn(() => this.#synchronize(plugin))
      await this.#options.apply(updates, plugin.name)
    } finally {
      this.#joining--
    }
  }

  async #synchronize(plugin: Plugin): Promise<readonly ContainerUpdate[]> {
    const { log, snapshot, synchronizeTimeoutMs } = this.#options
    const seen = await snapshot()
    const updates = await synchronize(plugin, seen, synchronizeTimeoutMs)
    this.#active = [...this.active, plugin].sort((a, b) => Number(a.identity.index) - Number(b.identity.index))
    log.info('Plugin connected', { plugin: plugin.name, pods: seen.pods.length, containers: seen.containers.length })
    void plugin.gone.then((why) => log.warn('Plugin is gone; going on without it', { plugin: plugin.name, why }))
    return updates
  }

  /** Nobody hears of what happens after this. */
  dismissAll(why: string): void {
    for (const plugin of this.#active) plugin.dismiss(why)
    this.#active = []
  }
}
