/** What happens to pods, for plugins. */

import type { PodSandbox } from '#proto/generated/nri.ts'
import type { Paths } from '../paths.ts'
import type { Sandbox, SandboxStore } from '../sandbox/sandbox.ts'
import type { PodResources } from '../sandbox/update-resources.ts'
import { METHODS } from './methods.ts'
import { podMessage } from './pod-message.ts'
import { fromCri } from './resource-message.ts'
import type { Telling } from './telling.ts'

export class PodEvents {
  readonly #telling: Telling
  readonly #sandboxes: SandboxStore
  readonly #paths: Paths
  /** Told of, or past the point where they would be, and not visible yet: whoever joins now must hear of them. */
  readonly #pending = new Map<string, PodSandbox>()
  readonly #stopped = new Set<string>()

  constructor(telling: Telling, sandboxes: SandboxStore, paths: Paths) {
    this.#telling = telling
    this.#sandboxes = sandboxes
    this.#paths = paths
  }

  /** For a plugin that joins. */
  snapshot(): PodSandbox[] {
    const visible = this.#sandboxes.visible().map((sandbox) => podMessage(sandbox, this.#paths))
    const ids = new Set(visible.map(({ id }) => id))
    return [...visible, ...[...this.#pending.values()].filter(({ id }) => !ids.has(id))]
  }

  of(id: Sandbox['record']['id']): PodSandbox | undefined {
    const sandbox = this.#sandboxes.get(id)
    return sandbox && podMessage(sandbox, this.#paths)
  }

  /** It is complete, with its addresses. @throws RuntimeError failed-precondition when a plugin does not want it */
  async run(sandbox: Sandbox, ips: readonly string[]): Promise<void> {
    const pod = podMessage(sandbox, this.#paths, ips)
    const request = () => {
      this.#pending.set(pod.id, pod)
      return { pod }
    }
    await this.#telling.tell(METHODS.runPod, request)
    this.#pending.set(pod.id, pod)
  }

  /** It is visible now. */
  isThere({ record }: Sandbox): void {
    this.#pending.delete(record.id)
  }

  /** It did not come to be. */
  async undo(sandbox: Sandbox): Promise<void> {
    if (!this.#pending.delete(sandbox.record.id)) return
    await this.stop(sandbox)
    await this.remove(sandbox)
  }

  /** @throws RuntimeError failed-precondition when a plugin says no */
  async update(sandbox: Sandbox, { overhead, resources }: PodResources): Promise<void> {
    await this.#telling.tell(METHODS.updatePod, () => ({
      pod: podMessage(sandbox, this.#paths),
      overheadLinuxResources: overhead && fromCri(overhead),
      linuxResources: resources && fromCri(resources),
    }))
  }

  isUpdated(sandbox: Sandbox): void {
    void this.#telling.late(METHODS.postUpdatePod, () => ({ pod: podMessage(sandbox, this.#paths) }))
  }

  /** Its containers have ended, its network is still there; told once, however often it is stopped. */
  async stop(sandbox: Sandbox): Promise<void> {
    const { id } = sandbox.record
    if (this.#stopped.has(id)) return
    this.#stopped.add(id)
    await this.#telling.late(METHODS.stopPod, () => ({ pod: podMessage(sandbox, this.#paths) }))
  }

  /** Nothing of it is left. */
  async remove(sandbox: Sandbox): Promise<void> {
    this.#stopped.delete(sandbox.record.id)
    await this.#telling.late(METHODS.removePod, () => ({ pod: podMessage(sandbox, this.#paths) }))
  }
}
