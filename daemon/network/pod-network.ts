/**
 * The pod network: attaches a sandbox's network namespace to it, checks it, detaches it. What was attached with which
 * configuration is on disk before the first plugin runs and until the last one has undone its work, so no address is lost.
 */
import type { Linux } from '#linux/linux.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { KeyedLock } from '#storage/keyed-lock.ts'
import { checkAttachment, type PodAttachment } from './attachment.ts'
import { type AttachmentRecord, type AttachmentRecords, openAttachmentRecords } from './attachment-records.ts'
import type { NetworkConfig } from './cni-config.ts'
import type { CniVerb, PluginHost } from './cni-plugin.ts'
import { type CniResult, type NetworkResult, networkResult } from './cni-result.ts'
import {
  type AddOutcome,
  addChain,
  type Chain,
  checkChain,
  deleteChain,
  PLUGIN_TIMEOUT_MS,
  undoChain,
} from './plugin-chain.ts'
import { type NetworkReady, type WatchedConfig, watchConfig } from './watch-config.ts'

export type { PodAttachment, PortMapping } from './attachment.ts'
export type { NetworkResult } from './cni-result.ts'
export type { NetworkReady } from './watch-config.ts'

export type NetworkLinux = Pick<Linux, 'isPinned' | 'readFileIfExists' | 'runCommand' | 'writeFileAtomic'>

export interface PodNetworkOptions {
  /** Where CNI configurations are. May not exist yet. */
  configDir: string
  binDirs: readonly string[]
  /** For the records; must survive a reboot, as address allocations do. */
  cacheDir: string
  log: Log
  linux: NetworkLinux
  /** How long one plugin may take. */
  timeoutMs?: Partial<Record<CniVerb, number>>
  /** How often the configuration is looked at even when no event says so. */
  pollMs?: number
}

export interface PodNetwork {
  /** Whether sandboxes can be attached now. Answers from memory. */
  ready(): NetworkReady
  /**
   * Attaches the sandbox. When it throws, whatever the plugins did has been undone, or stays on record until detach.
   * @throws RuntimeError failed-precondition without a usable network, and what the plugins report
   */
  attach(pod: PodAttachment, signal?: AbortSignal): Promise<NetworkResult>
  /**
   * Asks the plugins whether the attachment is as they left it. Does nothing for a network that knows no CHECK.
   * @throws RuntimeError not-found when the sandbox is not attached, and what the plugins report
   */
  check(pod: PodAttachment, signal?: AbortSignal): Promise<void>
  /**
   * Gives everything back, with the configuration of the time of attach. Does nothing for a sandbox that is not attached;
   * works when the network namespace is gone. `result` stands in when the one on record is lost.
   * @throws what the plugins report; the record stays and detach can be repeated
   */
  detach(pod: PodAttachment, result?: NetworkResult, signal?: AbortSignal): Promise<void>
  /** Ids of the sandboxes that are attached, or were and could not be detached: for a sweep of what nobody owns. */
  attached(): string[]
  /** The attachment on record, as detach wants it; undefined when there is none. */
  attachmentOf(sandboxId: string): Promise<PodAttachment | undefined>
  /** Stops watching the configuration. Running calls go on. */
  close(): void
}

interface Parts {
  host: PluginHost
  linux: NetworkLinux
  log: Log
  records: AttachmentRecords
  watched: WatchedConfig
  timeoutMs: Record<CniVerb, number>
}

const chainOf = (
  { host, timeoutMs, log }: Parts,
  { config, attachment }: AttachmentRecord,
  signal?: AbortSignal,
): Chain => ({
  host,
  config,
  pod: attachment,
  timeoutMs,
  log,
  signal,
})

/** CNI says: an empty path when the namespace is gone. A leftover of the pin that is no namespace is the same. */
const netnsFor = ({ linux }: Parts, pod: PodAttachment): string => (linux.isPinned(pod.netnsPath) ? pod.netnsPath : '')

const currentConfig = ({ watched }: Parts): NetworkConfig => {
  // The pod may come right behind the installer of the network, before any event did.
  if (watched.current() === undefined) watched.refresh()
  const config = watched.current()
  if (config !== undefined) return config
  const ready = watched.ready()
  throw new RuntimeError(
    'failed-precondition',
    ready.ok ? 'Pod network is not ready' : `Pod network is not ready: ${ready.reason}`,
  )
}

/** Undoes a failed ADD as far as it came. Its own failure is logged; the record that then stays is the debt. */
const undo = async (parts: Parts, record: AttachmentRecord, outcome: AddOutcome): Promise<void> => {
  const { sandboxId } = record.attachment
  try {
    // Without the caller's signal: it may be what ended the ADD.
    await undoChain(chainOf(parts, record), outcome, netnsFor(parts, record.attachment))
    await parts.records.remove(sandboxId)
  } catch (error) {
    parts.log.warn('Cannot undo a failed network attachment, keep it for detach', { sandbox: sandboxId, error })
  }
}

const resultOf = (
  { linux }: Parts,
  { attachment }: AttachmentRecord,
  { result, failure }: AddOutcome,
): NetworkResult => {
  if (failure !== undefined) throw failure.error
  if (!linux.isPinned(attachment.netnsPath)) {
    throw new RuntimeError('internal', `Network namespace "${attachment.netnsPath}" vanished while it was attached`)
  }
  return networkResult(result ?? {})
}

const add = async (parts: Parts, record: AttachmentRecord, signal?: AbortSignal): Promise<NetworkResult> => {
  await parts.records.writeIntent(record)
  const outcome = await addChain(chainOf(parts, record, signal))
  try {
    const result = resultOf(parts, record, outcome)
    await parts.records.writeResult(record.attachment.sandboxId, result.raw)
    return result
  } catch (error) {
    await undo(parts, record, outcome)
    throw error
  }
}

const remove = async (
  parts: Parts,
  record: AttachmentRecord,
  result: CniResult | undefined,
  signal?: AbortSignal,
): Promise<void> => {
  const chain = chainOf(parts, record, signal)
  await deleteChain(chain, record.config.plugins, netnsFor(parts, record.attachment), result)
  await parts.records.remove(record.attachment.sandboxId)
}

const attach = async (parts: Parts, pod: PodAttachment, signal?: AbortSignal): Promise<NetworkResult> => {
  checkAttachment(pod)
  const config = currentConfig(parts)
  // A record is an ADD that nobody took the result of, by a daemon that died: no second ADD without a DEL.
  await detach(parts, pod, undefined, signal)
  return add(parts, { attachment: pod, config }, signal)
}

const detach = async (parts: Parts, pod: PodAttachment, given?: NetworkResult, signal?: AbortSignal): Promise<void> => {
  const read = await parts.records.read(pod.sandboxId)
  switch (read.state) {
    case 'absent':
      return
    case 'present':
      return remove(parts, read.record, read.result ?? given?.raw, signal)
    case 'damaged':
      // The configuration of today is most likely the one of then.
      return remove(parts, { attachment: pod, config: currentConfig(parts) }, given?.raw, signal)
  }
}

const check = async (parts: Parts, pod: PodAttachment, signal?: AbortSignal): Promise<void> => {
  const read = await parts.records.read(pod.sandboxId)
  if (read.state !== 'present' || read.result === undefined) {
    throw new RuntimeError('not-found', `Sandbox "${pod.sandboxId}" is not attached to the pod network`)
  }
  await checkChain(chainOf(parts, read.record, signal), read.result)
}

/** Opens the pod network. Needs no configuration to be there yet. */
export const openPodNetwork = (options: PodNetworkOptions): PodNetwork => {
  const { configDir, binDirs, cacheDir, log, linux, pollMs } = options
  const parts: Parts = {
    host: { binDirs, linux },
    linux,
    log,
    records: openAttachmentRecords(cacheDir, linux, log),
    watched: watchConfig({ configDir, binDirs, log, ...(pollMs !== undefined && { pollMs }) }),
    timeoutMs: { ...PLUGIN_TIMEOUT_MS, ...options.timeoutMs },
  }
  const locks = new KeyedLock()
  return {
    ready: () => parts.watched.ready(),
    async attach(pod, signal) {
      using _ = await locks.take(pod.sandboxId, signal)
      return await attach(parts, pod, signal)
    },
    async check(pod, signal) {
      using _ = await locks.take(pod.sandboxId, signal)
      await check(parts, pod, signal)
    },
    async detach(pod, result, signal) {
      using _ = await locks.take(pod.sandboxId, signal)
      await detach(parts, pod, result, signal)
    },
    attached: () => parts.records.list(),
    async attachmentOf(sandboxId) {
      const read = await parts.records.read(sandboxId)
      return read.state === 'present' ? read.record.attachment : undefined
    },
    close: () => parts.watched.close(),
  }
}
