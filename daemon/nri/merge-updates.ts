/** The updates that several plugins ask for in answer to one event, put together in their order, one for each container. */

import { isKind, RuntimeError } from '#proto/errors.ts'
import { ContainerUpdate, type LinuxResources } from '#proto/generated/nri.ts'
import { mergeResources } from './merge-resources.ts'
import type { Owners } from './owners.ts'

export class UpdateMerge {
  readonly #owners: Owners
  readonly #untouchable: string | undefined
  readonly #byContainer = new Map<string, ContainerUpdate>()

  /** @param untouchable the container that is being created, which is adjusted and not updated */
  constructor(owners: Owners, untouchable?: string) {
    this.#owners = owners
    this.#untouchable = untouchable
  }

  /** What is asked for already: where the plugins' wishes begin. */
  begin(container: string, resources: LinuxResources): void {
    this.#byContainer.set(container, ContainerUpdate.create({ containerId: container, linux: { resources } }))
  }

  /** @throws RuntimeError failed-precondition for a conflict, unless the plugin says that it does not mind */
  add(updates: readonly ContainerUpdate[], plugin: string): void {
    for (const update of updates) {
      if (update.containerId === this.#untouchable) {
        throw new RuntimeError(
          'failed-precondition',
          `NRI plugin "${plugin}" updates container "${update.containerId}" while it is being created`,
        )
      }
      try {
        this.#addOne(update, plugin)
      } catch (error) {
        if (!update.ignoreFailure || !isKind(error, 'failed-precondition')) throw error
      }
    }
  }

  #addOne({ containerId, linux, ignoreFailure }: ContainerUpdate, plugin: string): void {
    const before = this.#byContainer.get(containerId)
    const wanted = linux?.resources
    const claimant = { owners: this.#owners, container: containerId, plugin }
    const resources = wanted ? mergeResources(before?.linux?.resources, wanted, claimant) : before?.linux?.resources
    this.#byContainer.set(containerId, {
      containerId,
      linux: { resources },
      ignoreFailure: (before?.ignoreFailure ?? true) && ignoreFailure,
    })
  }

  resourcesOf(container: string): LinuxResources | undefined {
    return this.#byContainer.get(container)?.linux?.resources
  }

  get updates(): ContainerUpdate[] {
    return [...this.#byContainer.values()]
  }
}
