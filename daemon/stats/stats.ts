/**
 * What statistics remember between two questions. There is no sampler: who asks takes the sample, and when nobody has asked for a while
 * every file is let go, so that a node without readers of statistics pays nothing.
 */
import { type Container, isLive } from '../container/container.ts'
import { hostCgroupPath } from '../oci/cgroup-path.ts'
import type { Parts } from '../parts.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import { Meters } from './meters.ts'
import { PodNetworks } from './pod-network.ts'
import { type SandboxCgroups, sandboxCgroups } from './sandbox-cgroups.ts'

const LET_GO_MS = 60_000

type Needs = Pick<Parts, 'config' | 'containers' | 'linux' | 'log' | 'paths' | 'sandboxes'>

export class Stats {
  readonly meters: Meters
  readonly networks: PodNetworks
  readonly #config: Parts['config']
  /** Working them out costs more than reading what is there. */
  readonly #paths = new WeakMap<Container, string>()
  readonly #cgroups = new WeakMap<Sandbox, SandboxCgroups>()
  #lastAskedMs = 0
  #timer: NodeJS.Timeout | undefined

  constructor(needs: Needs) {
    this.#config = needs.config
    this.meters = new Meters(needs.linux)
    this.networks = new PodNetworks(needs)
    needs.containers.watch(({ is, object }) => {
      if (is === 'deleted' || !isLive(object)) this.meters.forget(this.cgroupOf(object))
    })
    needs.sandboxes.watch(({ is, object }) => {
      if (is === 'deleted' || object.status.state !== 'ready') this.#forgetSandbox(object)
    })
  }

  /** Somebody wants to know. */
  asked(): void {
    this.#lastAskedMs = performance.now()
    this.#timer ??= setTimeout(() => this.#letGo(), LET_GO_MS).unref()
  }

  cgroupOf(container: Container): string {
    const known = this.#paths.get(container)
    if (known !== undefined) return known
    const path = hostCgroupPath(container.record.cgroupsPath)
    this.#paths.set(container, path)
    return path
  }

  cgroupsOf(sandbox: Sandbox): SandboxCgroups {
    const known = this.#cgroups.get(sandbox)
    if (known) return known
    const cgroups = sandboxCgroups(this.#config, sandbox)
    this.#cgroups.set(sandbox, cgroups)
    return cgroups
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.meters.close()
    this.networks.close()
  }

  #forgetSandbox(sandbox: Sandbox): void {
    const { pod, init } = this.cgroupsOf(sandbox)
    for (const path of [pod, init]) if (path !== undefined) this.meters.forget(path)
    this.networks.forget(sandbox.record.id)
  }

  #letGo(): void {
    const quietMs = performance.now() - this.#lastAskedMs
    if (quietMs >= LET_GO_MS) this.close()
    else this.#timer = setTimeout(() => this.#letGo(), LET_GO_MS - quietMs).unref()
  }
}
