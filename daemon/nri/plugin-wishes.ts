/** What plugins want done to containers: in answer to an event, or by themselves. */
import { messageOf } from '#proto/errors.ts'
import type {
  ContainerEviction,
  ContainerUpdate,
  UpdateContainersRequest,
  UpdateContainersResponse,
} from '#proto/generated/nri.ts'
import type { Log } from '#proto/log.ts'
import { type ChangedLimits, limitsOf } from './ask-update.ts'

/** Who does it. */
export interface WishGranter {
  /** @throws RuntimeError when the limits are not changed */
  update(id: string, limits: ChangedLimits): Promise<void>
  /** Stop it. @throws RuntimeError when it does not end */
  evict(id: string): Promise<void>
}

export class PluginWishes {
  readonly #log: Log
  #granter: WishGranter | undefined

  constructor(log: Log) {
    this.#log = log
  }

  grantedBy(granter: WishGranter): void {
    this.#granter = granter
  }

  /** @returns what was not done */
  async serve(plugin: string, { update, evict }: UpdateContainersRequest): Promise<UpdateContainersResponse> {
    this.evict(evict, plugin)
    return { failed: await this.update(update, plugin) }
  }

  /** One after the other, as their order may matter. @returns those that failed, unless the plugin does not mind */
  async update(updates: readonly ContainerUpdate[], who: string): Promise<ContainerUpdate[]> {
    const failed: ContainerUpdate[] = []
    for (const update of updates) {
      const { containerId: container, ignoreFailure } = update
      try {
        await this.#granter?.update(container, limitsOf(update))
      } catch (error) {
        this.#log.warn('Cannot update a container as plugins want it', { container, who, why: messageOf(error) })
        if (!ignoreFailure) failed.push(update)
      }
    }
    return failed
  }

  /** Nobody waits for their end. */
  evict(evictions: readonly ContainerEviction[], who: string): void {
    for (const { containerId: container, reason } of evictions) {
      this.#log.warn('A plugin evicts a container', { container, who, reason })
      this.#granter?.evict(container).catch((error) => {
        this.#log.warn('Cannot evict a container', { container, why: messageOf(error) })
      })
    }
  }
}
