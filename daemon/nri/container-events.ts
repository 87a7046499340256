/** What happens to containers, for plugins, and what they make of it. */
import type { LinuxContainerResources } from '#proto/generated/api.ts'
import { type ContainerUpdate, Event, type PodSandbox, type Container as Told } from '#proto/generated/nri.ts'
import type { Container, ContainerStore } from '../container/container.ts'
import type { OciSpec } from '../oci/spec/types.ts'
import { type AdjustContext, type AdjustedSpec, applyAdjustment } from './apply-adjustment.ts'
import { askCreate } from './ask-create.ts'
import { type ChangedLimits, UpdateRound } from './ask-update.ts'
import { containerMessage } from './container-message.ts'
import type { ValidatorRules } from './default-validator.ts'
import { UpdateMerge } from './merge-updates.ts'
import { METHODS } from './methods.ts'
import { Owners } from './owners.ts'
import type { PluginWishes } from './plugin-wishes.ts'
import type { PodEvents } from './pod-events.ts'
import type { Telling } from './telling.ts'

export interface ContainerEventsOptions {
  readonly telling: Telling
  readonly pods: PodEvents
  readonly wishes: PluginWishes
  readonly containers: ContainerStore
  readonly rules: ValidatorRules
  /** The spec of a container with the limits in force; undefined when its file is gone. */
  readSpec(container: Container): Promise<OciSpec | undefined>
}

type Request = { readonly pod: PodSandbox | undefined; readonly container: Told }

export class ContainerEvents {
  readonly #options: ContainerEventsOptions
  readonly #telling: Telling
  /** Told of, or past the point where they would be, and not visible yet: whoever joins now must hear of them. */
  readonly #pending = new Map<string, { readonly container: Container; readonly spec: OciSpec }>()

  constructor(options: ContainerEventsOptions) {
    this.#options = options
    this.#telling = options.telling
  }

  /** For a plugin that joins: all that have not ended. */
  async snapshot(): Promise<Told[]> {
    const { containers, readSpec } = this.#options
    const live = containers.visible().filter(({ status }) => status.state !== 'exited')
    const ids = new Set<string>(live.map(({ record }) => record.id))
    const pending = [...this.#pending.values()].filter(({ container }) => !ids.has(container.record.id))
    const told = live.map(async (container) => {
      const { record, status } = container
      return containerMessage({ record, status, spec: await readSpec(container) })
    })
    return [
      ...(await Promise.all(told)),
      ...pending.map(({ container: { record, status }, spec }) => containerMessage({ record, status, spec })),
    ]
  }

  /** Whether plugins may change where a container that is made now belongs. */
  get mayBeAdjusted(): boolean {
    return this.#telling.plugins.wants(Event.CREATE_CONTAINER)
  }

  /**
   * The spec is complete, and comes back as plugins want it.
   * @throws RuntimeError failed-precondition when plugins or the node's rules refuse it; invalid-argument for what cannot be
   */
  async create(container: Container, spec: OciSpec, context: AdjustContext): Promise<AdjustedSpec> {
    const { rules, wishes } = this.#options
    const { plugins } = this.#telling
    const { id, sandboxId } = container.record
    const isAsked = rules.enabled || plugins.wants(Event.CREATE_CONTAINER, Event.VALIDATE_CONTAINER_ADJUSTMENT)
    if (!isAsked) {
      this.#pending.set(id, { container, spec })
      return { spec, resources: undefined, warnings: [] }
    }
    const { adjusted, outcome } = await plugins.turn(async () => {
      this.#pending.set(id, { container, spec })
      const { record, status } = container
      const told = containerMessage({ record, status, spec })
      const outcome = await askCreate(plugins.active, rules, { pod: this.#options.pods.of(sandboxId), container: told })
      const adjusted = applyAdjustment(spec, outcome.adjustment, context)
      this.#pending.set(id, { container, spec: adjusted.spec })
      return { adjusted, outcome }
    })
    await wishes.update(outcome.updates, METHODS.create.name)
    wishes.evict(outcome.evictions, METHODS.create.name)
    return adjusted
  }

  /** It is visible now. */
  isThere(container: Container): void {
    this.#pending.delete(container.record.id)
    void this.#telling.late(METHODS.postCreate, () => this.#request(container))
  }

  /** It did not come to be. */
  async undo(container: Container): Promise<void> {
    const { record, status } = container
    const pending = this.#pending.get(record.id)
    if (!this.#pending.delete(record.id)) return
    const request = {
      pod: this.#options.pods.of(record.sandboxId),
      container: containerMessage({ record, status, spec: pending?.spec }),
    }
    await this.#telling.late(METHODS.stop, () => request)
    await this.#telling.late(METHODS.remove, () => request)
  }

  /** @throws RuntimeError failed-precondition when a plugin does not want it to start */
  async start(container: Container): Promise<void> {
    await this.#telling.tell(METHODS.start, () => this.#request(container))
  }

  hasStarted(container: Container): void {
    void this.#telling.late(METHODS.postStart, () => this.#request(container))
  }

  /** @returns the change as plugins want it. @throws RuntimeError failed-precondition when one refuses it */
  async update(container: Container, change: LinuxContainerResources): Promise<ChangedLimits> {
    const { plugins } = this.#telling
    if (!plugins.wants(Event.UPDATE_CONTAINER)) return { change, beyond: {} }
    const round = new UpdateRound(container.record.id, change)
    await plugins.turn(async () => round.ask(plugins.active, await this.#request(container)))
    const { wishes } = this.#options
    await wishes.update(round.updates, METHODS.update.name)
    wishes.evict(round.evictions, METHODS.update.name)
    return round.limits
  }

  isUpdated(container: Container): void {
    void this.#telling.late(METHODS.postUpdate, () => this.#request(container))
  }

  /** It has ended. Nobody waits for that: what is told later comes later. */
  hasEnded(container: Container): void {
    void this.#telling.logged(METHODS.stop.name, () => this.#end(container))
  }

  async #end(container: Container): Promise<void> {
    const { plugins } = this.#telling
    if (!plugins.wants(Event.STOP_CONTAINER)) return
    const merge = new UpdateMerge(new Owners())
    const heard = (answer: { update: ContainerUpdate[] }, plugin: { name: string }) =>
      merge.add(answer.update, plugin.name)
    await plugins.turn(async () => plugins.tell(METHODS.stop, await this.#request(container), heard))
    await this.#options.wishes.update(merge.updates, METHODS.stop.name)
  }

  /** Its files are still there. */
  async remove(container: Container): Promise<void> {
    await this.#telling.late(METHODS.remove, () => this.#request(container))
  }

  async #request(container: Container): Promise<Request> {
    const { record, status } = container
    const spec = await this.#options.readSpec(container)
    return { pod: this.#options.pods.of(record.sandboxId), container: containerMessage({ record, status, spec }) }
  }
}
