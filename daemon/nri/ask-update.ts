/** UpdateContainer as plugins see it: each changes what those before it made of the request. */
import type { LinuxContainerResources } from '#proto/generated/api.ts'
import {
  type Container,
  type ContainerEviction,
  type ContainerUpdate,
  Event,
  LinuxResources,
  type PodSandbox,
} from '#proto/generated/nri.ts'
import type { OciResources } from '../oci/spec/types.ts'
import { UpdateMerge } from './merge-updates.ts'
import { METHODS } from './methods.ts'
import { Owners } from './owners.ts'
import type { Plugin } from './plugin.ts'
import { beyondCri, fromCri, toCri } from './resource-message.ts'

/** New limits: in the kubelet's words, and those that it has no words for. */
export interface ChangedLimits {
  readonly change: LinuxContainerResources
  readonly beyond: OciResources
}

/** @throws RuntimeError invalid-argument */
export const limitsOf = ({ linux }: ContainerUpdate): ChangedLimits => {
  const resources = linux?.resources ?? LinuxResources.create({})
  return { change: toCri(resources), beyond: beyondCri(resources) }
}

export class UpdateRound {
  readonly #id: string
  readonly #asked: LinuxContainerResources
  readonly #merge = new UpdateMerge(new Owners())
  readonly evictions: ContainerEviction[] = []
  #own: LinuxResources

  constructor(id: string, asked: LinuxContainerResources) {
    this.#id = id
    this.#asked = asked
    this.#own = fromCri(asked)
    this.#merge.begin(id, this.#own)
  }

  /** @throws RuntimeError failed-precondition when a plugin says no, or plugins contradict each other */
  async ask(plugins: readonly Plugin[], { pod, container }: { pod: PodSandbox | undefined; container: Container }) {
    for (const plugin of plugins.filter((each) => each.wants(Event.UPDATE_CONTAINER))) {
      const answer = await plugin.ask(METHODS.update, { pod, container, linuxResources: this.#own })
      if (!answer) continue
      this.#merge.add(answer.update, plugin.name)
      this.evictions.push(...answer.evict)
      this.#own = this.#merge.resourcesOf(this.#id) ?? this.#own
    }
  }

  /** Of the container that the kubelet updates. */
  get limits(): ChangedLimits {
    const { oomScoreAdj } = this.#asked
    return { change: { ...toCri(this.#own), oomScoreAdj }, beyond: beyondCri(this.#own) }
  }

  /** Of others. */
  get updates(): ContainerUpdate[] {
    return this.#merge.updates.filter(({ containerId }) => containerId !== this.#id)
  }
}
