/**
 * Host ports of pods whose network has no plugin for them. The claims are in memory, the rules in one table of ours that is
 * always written as a whole: what is in the kernel cannot drift from what is meant, and a lost table comes back.
 */
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { PortMapping } from '../attachment.ts'
import { type Claim, claimsOf, claimText, overlap } from './claim.ts'
import type { Nft } from './nft.ts'
import { type PodAddress, type PublishedPod, tableFor } from './rules.ts'

/** Somebody may flush all tables, as some firewalls do when they are reloaded. */
const CHECK_EVERY_MS = 60_000

/** By sandbox: what it claims, and where that leads. */
export type PublishedHostPorts = Map<string, { mappings: readonly PortMapping[]; addresses: readonly PodAddress[] }>

export interface HostPorts {
  /**
   * Claims the ports for the sandbox; they lead nowhere yet.
   * @throws RuntimeError invalid-argument for what is no port or address, failed-precondition when another sandbox has one
   *   of them or nft is not installed
   */
  reserve(sandboxId: string, mappings: readonly PortMapping[]): void
  /** Leads what the sandbox has claimed to its addresses, of which the first of each family counts. */
  publish(sandboxId: string, addresses: readonly PodAddress[]): Promise<void>
  /** Ends both. Does nothing for a sandbox that claims nothing. */
  withdraw(sandboxId: string): Promise<void>
  /** Forgets all claims and takes over these, in the kernel as well. For the start. */
  replaceAll(pods: PublishedHostPorts): Promise<void>
  close(): void
}

export interface HostPortsOptions {
  nft: Nft
  table: string
  log: Log
  /** Has the host's loopback addresses reach this pod; see route-localnet.ts. */
  openLoopback(address: string): void
  checkEveryMs?: number
}

const isFromLoopback = ({ family, hostIP }: Claim): boolean =>
  family === 4 && (hostIP === undefined || hostIP.startsWith('127.'))

export const openHostPorts = ({
  nft,
  table,
  log,
  openLoopback,
  checkEveryMs = CHECK_EVERY_MS,
}: HostPortsOptions): HostPorts => {
  const pods = new Map<string, PublishedPod>()
  let writing: Promise<void> = Promise.resolve()
  let waiting: Promise<void> | undefined

  const published = (): PublishedPod[] => [...pods.values()].filter(({ addresses }) => addresses.length > 0)

  /** Writes what is meant by the time it runs: callers who come while another write is on its way share the next one. */
  const write = (): Promise<void> => {
    waiting ??= writing
      .catch(() => {})
      .then(() => {
        waiting = undefined
        writing = nft.apply(tableFor(table, published()))
        return writing
      })
    return waiting
  }

  const forgetFlows = async ({ claims }: PublishedPod): Promise<void> => {
    const ports = new Set(claims.filter(({ protocol }) => protocol === 'udp').map(({ hostPort }) => hostPort))
    for (const port of ports) {
      await nft.forgetUdp(port).catch((error) => log.warn('Cannot end UDP flows', { port, why: messageOf(error) }))
    }
  }

  const loopback = ({ claims, addresses }: PublishedPod): void => {
    const address = addresses.find(({ family }) => family === 4)?.address
    if (address === undefined || !claims.some(isFromLoopback)) return
    try {
      openLoopback(address)
    } catch (error) {
      // The port still works from everywhere else.
      log.warn('Host ports cannot be reached from 127.0.0.1', { address, why: messageOf(error) })
    }
  }

  const holderOf = (claim: Claim, except: string): string | undefined => {
    for (const [id, { claims }] of pods) {
      if (id !== except && claims.some((other) => overlap(claim, other))) return id
    }
    return undefined
  }

  const check = async (): Promise<void> => {
    if (published().length === 0 || (await nft.hasTable(table))) return
    log.warn('The table of host ports is gone, write it again', { table })
    await write()
  }
  const timer = setInterval(() => {
    check().catch((error) => log.warn('Cannot check host ports', { why: messageOf(error) }))
  }, checkEveryMs).unref()

  return {
    reserve(sandboxId, mappings) {
      const claims = mappings.flatMap(claimsOf)
      if (claims.length === 0) return
      for (const [index, claim] of claims.entries()) {
        const holder = holderOf(claim, sandboxId)
        if (holder !== undefined) {
          throw new RuntimeError('failed-precondition', `Host ${claimText(claim)} is taken by sandbox "${holder}"`)
        }
        const twin = claims.slice(0, index).find((other) => overlap(claim, other))
        if (twin !== undefined && twin.containerPort !== claim.containerPort) {
          throw new RuntimeError('invalid-argument', `config.port_mappings has host ${claimText(claim)} twice`)
        }
      }
      nft.require()
      pods.set(sandboxId, { claims, addresses: [] })
    },
    async publish(sandboxId, addresses) {
      const pod = pods.get(sandboxId)
      if (pod === undefined) return
      const now = { ...pod, addresses }
      pods.set(sandboxId, now)
      loopback(now)
      try {
        await write()
      } catch (error) {
        pods.set(sandboxId, pod)
        throw error
      }
      await forgetFlows(now)
    },
    async withdraw(sandboxId) {
      const pod = pods.get(sandboxId)
      if (pod === undefined) return
      if (pod.addresses.length > 0) {
        pods.set(sandboxId, { ...pod, addresses: [] })
        try {
          await write()
        } catch (error) {
          // They still lead to the pod: it must be possible to ask again.
          pods.set(sandboxId, pod)
          throw error
        }
        await forgetFlows(pod)
      }
      pods.delete(sandboxId)
    },
    async replaceAll(all) {
      pods.clear()
      for (const [id, { mappings, addresses }] of all) {
        const pod = { claims: mappings.flatMap(claimsOf), addresses }
        pods.set(id, pod)
        loopback(pod)
      }
      if (pods.size > 0 || nft.isInstalled()) await write()
    },
    close: () => clearInterval(timer),
  }
}
