/** What went through a pod's network interfaces, read inside its network namespace; the node's for pods on the host network. */
import type { InterfaceCounters, NetCounters } from '#linux/net-counters.ts'
import { messageOf } from '#proto/errors.ts'
import type { SandboxId } from '../ids.ts'
import type { Parts } from '../parts.ts'
import { podNamespaces, type Sandbox } from '../sandbox/sandbox.ts'

export interface NetworkUsage {
  /** The one that leads to the rest of the world. */
  readonly main: InterfaceCounters | undefined
  /** All but the loopback. */
  readonly interfaces: readonly InterfaceCounters[]
}

/** Routes change seldom, and looking for them costs more than the counters. */
const ROUTES_MS = 60_000
/** The host's ends of the pods' own interfaces are counted in the pods. */
const OF_PODS = /^veth/

type Owner = SandboxId | 'host'

interface Known {
  /** Undefined for the host's own namespace. */
  readonly pin: string | undefined
  readonly counters: NetCounters
  main?: { readonly name: string | undefined; readonly atMs: number }
}

type NetworkNeeds = Pick<Parts, 'linux' | 'log' | 'paths'>

export class PodNetworks {
  readonly #needs: NetworkNeeds
  readonly #known = new Map<Owner, Known>()

  constructor(needs: NetworkNeeds) {
    this.#needs = needs
  }

  /** A reader for one answer: the node's own interfaces are read once for all pods on the host network. */
  reader(): (sandbox: Sandbox) => NetworkUsage | undefined {
    let host: { readonly usage: NetworkUsage | undefined } | undefined
    return (sandbox) => {
      const { id, config } = sandbox.record
      if (!podNamespaces(config).hostNetwork) return this.#read(this.#known.get(id) ?? this.#open(id), id)
      host ??= { usage: this.#read(this.#known.get('host') ?? this.#open('host'), 'host') }
      return host.usage
    }
  }

  /** Before the network namespace is given back: as long as it is read it lives on, with its interfaces. */
  forget(id: SandboxId): void {
    this.#known.get(id)?.counters.close()
    this.#known.delete(id)
  }

  /** Let go of all files; the next reading opens them again. */
  close(): void {
    for (const { counters } of this.#known.values()) counters.close()
  }

  #open(owner: Owner): Known {
    const { linux, paths } = this.#needs
    const pin = owner === 'host' ? undefined : paths.sandbox(owner).pin('net')
    const known = { pin, counters: linux.netCounters(pin) }
    this.#known.set(owner, known)
    return known
  }

  /** Undefined for a namespace that is gone, and for one that cannot be read: no list fails for the sake of one pod. */
  #read(known: Known, owner: Owner): NetworkUsage | undefined {
    try {
      const all = known.counters.read()
      if (all === undefined) return undefined
      const isOnHost = known.pin === undefined
      const interfaces = all.filter(({ name }) => name !== 'lo' && !(isOnHost && OF_PODS.test(name)))
      const main = this.#mainOf(known)
      return { interfaces, main: interfaces.find(({ name }) => name === main) ?? interfaces[0] }
    } catch (error) {
      this.#needs.log.warn('Cannot read network counters', { sandbox: owner, why: messageOf(error) })
      return undefined
    }
  }

  #mainOf(known: Known): string | undefined {
    const atMs = performance.now()
    if (known.main === undefined || atMs - known.main.atMs > ROUTES_MS) {
      known.main = { name: this.#needs.linux.defaultInterfaceOf(known.pin), atMs }
    }
    return known.main.name
  }
}
