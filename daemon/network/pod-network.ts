/**
 * The pod network: attaches sandboxes through the CNI plugins that the configuration directory names, and detaches them. What
 * was attached is on disk before the first plugin runs and until the last one has undone its work, so no address is lost; what
 * cannot be undone now is tried again until it is.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { KeyedLock } from '#storage/keyed-lock.ts'
import { SingleFlight } from '#storage/single-flight.ts'
import { type AttachStages, attachSandbox, podAddresses } from './attach-sandbox.ts'
import { ownPortMappings, type PodAttachment } from './attachment.ts'
import { openAttachmentRecords } from './attachment-records.ts'
import { checkSandbox } from './check-sandbox.ts'
import type { CniVerb } from './cni-plugin.ts'
import type { NetworkResult } from './cni-result.ts'
import { collectAttachments } from './collect-attachments.ts'
import { Debts, type NetworkDebt } from './debts.ts'
import { detachSandbox } from './detach-sandbox.ts'
import { endOrphans, type Unfinished } from './end-orphans.ts'
import { Gate } from './gate.ts'
import { openHostPorts, type PublishedHostPorts } from './host-ports/host-ports.ts'
import { type Nft, openNft } from './host-ports/nft.ts'
import { routeLocalnetTo } from './host-ports/route-localnet.ts'
import { type NetworkLinux, type NetworkParts, networkChain } from './network-parts.ts'
import { PLUGIN_TIMEOUT_MS, statusChain } from './plugin-chain.ts'
import { PluginStatus } from './plugin-status.ts'
import { type NetworkReady, watchConfig } from './watch-config.ts'

export type { PodAttachment, PortMapping } from './attachment.ts'
export type { NetworkResult } from './cni-result.ts'
export type { NetworkDebt } from './debts.ts'
export type { NetworkReady } from './watch-config.ts'

export interface PodNetworkOptions {
  /** Where CNI configurations are. May not exist yet. */
  configDir: string
  binDirs: readonly string[]
  /** For the records; must survive a reboot, as address allocations do. */
  cacheDir: string
  log: Log
  linux: NetworkLinux
  /** The name of the nftables table for host ports; no other daemon of this host may have the same. */
  hostPortTable?: string
  nft?: Nft
  /** How long one plugin may take. */
  timeoutMs?: Partial<Record<CniVerb, number>>
  /** How often the configuration is looked at even when no event says so. */
  pollMs?: number
  /** The pauses between questions for STATUS, and between tries to detach. */
  pauses?: { whenReadyMs?: number; whenNotReadyMs?: number; firstPauseMs?: number; longestPauseMs?: number }
}

/** What has become of a sandbox with an attachment on record. */
export type Fate = 'attached' | 'being stopped' | 'gone'

export interface PodNetwork {
  /** Whether sandboxes can be attached now. Answers from memory. */
  ready(): NetworkReady
  /**
   * Attaches the sandbox. When it throws, whatever the plugins did has been undone, or stays on record until detach.
   * @throws RuntimeError failed-precondition without a usable network or when a host port is taken, and what the plugins report
   */
  attach(pod: PodAttachment, signal?: AbortSignal, stages?: AttachStages): Promise<NetworkResult>
  /**
   * Asks the plugins whether the attachment is as they left it. Does nothing for a network that knows no CHECK.
   * @throws RuntimeError not-found when the sandbox is not attached, and what the plugins report
   */
  check(pod: PodAttachment, signal?: AbortSignal): Promise<void>
  /**
   * Gives everything back, with the configuration of the time of attach. Does nothing for a sandbox that is not attached;
   * works when the network namespace is gone. `result` stands in when the one on record is lost. A caller joins the try that
   * is under way; the signal ends the waiting only.
   * @throws what the plugins report; the record stays, detach can be repeated, and is, in the background
   */
  detach(pod: PodAttachment, result?: NetworkResult, signal?: AbortSignal): Promise<void>
  /**
   * detach for one who has to get on: fails as long as it is worth coming back, which is twice. From the third failure in a
   * row, and with `isLast` always and after a short wait, the rest is left to the background.
   */
  release(pod: PodAttachment, options: { isLast: boolean }): Promise<void>
  /** Ids of the sandboxes that are attached, or were and could not be detached: for a sweep of what nobody owns. */
  attached(): string[]
  /** The attachment on record, as detach wants it; undefined when there is none. */
  attachmentOf(sandboxId: string): Promise<PodAttachment | undefined>
  /** The detachments that failed and are tried again in the background. */
  debts(): NetworkDebt[]
  /**
   * Takes up where an earlier life of the daemon ended: host ports lead to sandboxes that are attached and to no others, and
   * what is gone is detached, in the background.
   */
  resume(fateOf: (sandboxId: string) => Fate): Promise<void>
  /** Has the plugins of a CNI 1.1 network give back what no sandbox has. Never throws. */
  collectGarbage(): Promise<void>
  /** Stops watching the configuration and all that goes on in the background. */
  close(): void
}

/** How often a caller of release is told of a failure before the background has it. */
const FAILURES_TOLD = 2

const LAST_PATIENCE_MS = 10_000

const NAMELESS = { name: '', namespace: '', uid: '', netnsPath: '', portMappings: [], annotations: {} }

/** What an earlier daemon may have left running: DEL of any sandbox, and ADD where no result was written. */
const unfinishedCalls = ({ records }: NetworkParts): Unfinished => {
  const calls = new Map<string, ('ADD' | 'DEL')[]>(records.list().map((id) => [id, ['DEL']]))
  for (const id of records.listUnfinished()) calls.set(id, ['ADD', 'DEL'])
  return calls
}

/** Opens the pod network. Needs no configuration to be there yet. */
export const openPodNetwork = (options: PodNetworkOptions): PodNetwork => {
  const { configDir, binDirs, cacheDir, log, linux, pollMs, pauses = {} } = options
  let status: PluginStatus | undefined
  const watched = watchConfig({
    configDir,
    binDirs,
    log,
    ...(pollMs !== undefined && { pollMs }),
    changed: () => status?.configMayHaveChanged(),
  })
  const hostPorts = openHostPorts({
    nft: options.nft ?? openNft(linux),
    table: options.hostPortTable ?? 'cricket',
    log,
    openLoopback: routeLocalnetTo,
  })
  const parts: NetworkParts = {
    host: { binDirs, linux },
    hostPorts,
    linux,
    log,
    records: openAttachmentRecords(cacheDir, linux, log),
    watched,
    timeoutMs: { ...PLUGIN_TIMEOUT_MS, ...options.timeoutMs },
  }
  endOrphans(unfinishedCalls(parts), log)
  status = new PluginStatus({
    ...pauses,
    ask: (config, signal) => statusChain(networkChain(parts, config, signal)),
    current: () => watched.current(),
    log,
  })
  status.configMayHaveChanged()
  const pluginStatus = status
  const locks = new KeyedLock()
  const gate = new Gate()
  const flights = new SingleFlight<void>()
  const closed = new AbortController()
  /** Sandboxes that nobody but the background will detach. */
  const left = new Set<string>()

  const attachmentOf = async (sandboxId: string): Promise<PodAttachment | undefined> => {
    const read = await parts.records.read(sandboxId)
    return read.state === 'present' ? read.record.attachment : undefined
  }

  const detach = (pod: PodAttachment, result?: NetworkResult, signal?: AbortSignal): Promise<void> =>
    flights.run(pod.sandboxId, (own) => detachOnce(pod, result, own), signal)

  const detachOnce = async (
    pod: PodAttachment,
    result: NetworkResult | undefined,
    signal: AbortSignal,
  ): Promise<void> => {
    using _ = await locks.take(pod.sandboxId, signal)
    using __ = await gate.enter()
    try {
      await detachSandbox(parts, pod, result, signal)
      debts.paid(pod.sandboxId)
      left.delete(pod.sandboxId)
    } catch (error) {
      debts.failed(pod.sandboxId, error)
      throw error
    }
  }

  const debts = new Debts({
    ...pauses,
    log,
    async pay(sandboxId) {
      // By its id alone a plugin finds what it gave, when the record is too damaged to say more.
      await detach((await attachmentOf(sandboxId)) ?? { ...NAMELESS, sandboxId })
    },
  })

  /** A record that cannot be used any more must not keep the ports of others closed. */
  const addHostPorts = async (published: PublishedHostPorts, id: string): Promise<void> => {
    const read = await parts.records.read(id)
    if (read.state !== 'present' || read.result === undefined) return
    const mappings = ownPortMappings(read.record.attachment, read.record.config.plugins)
    if (mappings.length === 0) return
    try {
      published.set(id, { mappings, addresses: podAddresses(read.result) })
    } catch (error) {
      log.warn('Host ports of a sandbox are lost', { sandbox: id, why: messageOf(error) })
    }
  }

  const leave = (sandboxId: string, why: string): void => {
    log.warn('Go on without having detached the sandbox; that is tried again in the background', {
      sandbox: sandboxId,
      why,
    })
    left.add(sandboxId)
  }

  return {
    ready() {
      const ready = watched.ready()
      const config = watched.current()
      const problem = config && pluginStatus.problemOf(config)
      return problem === undefined ? ready : { ok: false, reason: problem }
    },
    async attach(pod, signal, stages) {
      using _ = await locks.take(pod.sandboxId, signal)
      using __ = await gate.enter()
      return await attachSandbox(parts, pod, signal, stages)
    },
    async check(pod, signal) {
      using _ = await locks.take(pod.sandboxId, signal)
      await checkSandbox(parts, pod, signal)
    },
    detach,
    async release(pod, { isLast }) {
      const detached = detach(pod).then(() => true)
      try {
        // A try that outlasts the patience goes on; its own deadline ends it.
        const isDone = isLast
          ? await Promise.race([detached, sleep(LAST_PATIENCE_MS, false, { ref: false })])
          : await detached
        if (!isDone) leave(pod.sandboxId, `it takes longer than ${LAST_PATIENCE_MS / 1000} s`)
      } catch (error) {
        if (!isLast && debts.failuresOf(pod.sandboxId) <= FAILURES_TOLD) throw error
        leave(pod.sandboxId, messageOf(error))
      }
    },
    attached: () => parts.records.list(),
    attachmentOf,
    debts: () => debts.list(),
    async resume(fateOf) {
      const published: PublishedHostPorts = new Map()
      for (const id of parts.records.list()) {
        const fate = fateOf(id)
        if (fate === 'attached') await addHostPorts(published, id)
        if (fate !== 'gone') continue
        left.add(id)
        debts.take(id)
      }
      try {
        await hostPorts.replaceAll(published)
      } catch (error) {
        log.error('Cannot bring host ports up to date', { why: messageOf(error) })
      }
    },
    async collectGarbage() {
      try {
        const collected = (id: string) => {
          debts.paid(id)
          left.delete(id)
        }
        await collectAttachments(parts, { gate, isOwed: (id) => left.has(id), collected, signal: closed.signal })
      } catch (error) {
        log.warn('Cannot collect the garbage of the pod network', { why: messageOf(error) })
      }
    },
    close() {
      watched.close()
      pluginStatus.close()
      hostPorts.close()
      debts.close()
      closed.abort(new Error('The pod network is closed'))
      void flights.abortAll(closed.signal.reason)
    },
  }
}
