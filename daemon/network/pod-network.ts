/**
 * The pod network: attaches sandboxes through the CNI plugins that the configuration directory names, and detaches them. What
 * was attached is on disk before the first plugin runs and until the last one has undone its work, so no address is lost; what
 * cannot be undone now is tried again until it is.
 */
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { KeyedLock } from '#storage/keyed-lock.ts'
import type { Repeat } from '#storage/slow-looks.ts'
import { type AttachStages, attachSandbox } from './attach-sandbox.ts'
import type { PodAttachment } from './attachment.ts'
import { openAttachmentRecords } from './attachment-records.ts'
import { checkSandbox } from './check-sandbox.ts'
import type { CniVerb } from './cni-plugin.ts'
import type { NetworkResult } from './cni-result.ts'
import { collectAttachments } from './collect-attachments.ts'
import type { NetworkDebt } from './debts.ts'
import { Detachments } from './detachments.ts'
import { endOrphans, type Unfinished } from './end-orphans.ts'
import { Gate } from './gate.ts'
import { openHostPorts } from './host-ports/host-ports.ts'
import { type Nft, openNft } from './host-ports/nft.ts'
import { routeLocalnetTo } from './host-ports/route-localnet.ts'
import { type NetworkLinux, type NetworkParts, networkChain } from './network-parts.ts'
import { PLUGIN_TIMEOUT_MS, statusChain } from './plugin-chain.ts'
import { PluginStatus } from './plugin-status.ts'
import { type Fate, resumeNetwork } from './resume-network.ts'
import { untilReady } from './until-ready.ts'
import { type NetworkReady, watchConfig } from './watch-config.ts'

export type { PodAttachment, PortMapping } from './attachment.ts'
export type { NetworkResult } from './cni-result.ts'
export type { NetworkDebt } from './debts.ts'
export type { Fate } from './resume-network.ts'
export type { NetworkReady } from './watch-config.ts'

/** Longer than an installer takes to replace its files, shorter than a kubelet is patient. */
const WAIT_MS = 10_000

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
  /** Has the configuration looked at even when no event says so. */
  repeat?: Repeat
  /** How long `untilReady` waits. */
  waitMs?: number
  /** The pauses between questions for STATUS, and between tries to detach. */
  pauses?: { whenReadyMs?: number; whenNotReadyMs?: number; firstPauseMs?: number; longestPauseMs?: number }
}

export interface PodNetwork {
  /** Whether sandboxes can be attached now. Answers from memory. */
  ready(): NetworkReady
  /**
   * Waits a while for a network that is not ready: its installer may be about to put it there, or to replace it.
   * @throws RuntimeError failed-precondition saying why there is none, or the signal's reason
   */
  untilReady(signal?: AbortSignal): Promise<void>
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
  /** Ids of the sandboxes that are attached, or were and could not be detached. */
  attached(): string[]
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

/** What an earlier daemon may have left running: DEL of any sandbox, and ADD where no result was written. */
const unfinishedCalls = ({ records }: NetworkParts): Unfinished => {
  const calls = new Map<string, ('ADD' | 'DEL')[]>(records.list().map((id) => [id, ['DEL']]))
  for (const id of records.listUnfinished()) calls.set(id, ['ADD', 'DEL'])
  return calls
}

/** Opens the pod network. Needs no configuration to be there yet. */
export const openPodNetwork = (options: PodNetworkOptions): PodNetwork => {
  const { configDir, binDirs, cacheDir, log, linux, repeat = () => () => {}, pauses = {} } = options
  let status: PluginStatus | undefined
  const watched = watchConfig({
    configDir,
    binDirs,
    log,
    repeat,
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
  const detachments = new Detachments({ parts, locks, gate, pauses })
  const closed = new AbortController()
  const ready = (): NetworkReady => {
    const files = watched.ready()
    const config = watched.current()
    const problem = config && pluginStatus.problemOf(config)
    return problem === undefined ? files : { ok: false, reason: problem }
  }
  return {
    ready,
    async untilReady(signal) {
      if (ready().ok) return
      // The pod may come right behind the installer of the network, before any event did.
      watched.refresh()
      await untilReady(ready, options.waitMs ?? WAIT_MS, signal)
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
    detach: (pod, result, signal) => detachments.detach(pod, result, signal),
    release: (pod, { isLast }) => detachments.release(pod, isLast),
    attached: () => parts.records.list(),
    debts: () => detachments.list(),
    resume: (fateOf) => resumeNetwork(parts, detachments, fateOf),
    async collectGarbage() {
      try {
        await collectAttachments(parts, detachments, gate, closed.signal)
      } catch (error) {
        log.warn('Cannot collect the garbage of the pod network', { why: messageOf(error) })
      }
    },
    close() {
      closed.abort(new Error('The pod network is closed'))
      watched.close()
      pluginStatus.close()
      hostPorts.close()
      detachments.close(closed.signal.reason)
    },
  }
}
