/** What the operations of the pod network share. */
import type { Linux } from '#linux/linux.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { PodAttachment } from './attachment.ts'
import type { AttachmentRecord, AttachmentRecords } from './attachment-records.ts'
import type { NetworkConfig } from './cni-config.ts'
import type { CniVerb, PluginHost } from './cni-plugin.ts'
import type { HostPorts } from './host-ports/host-ports.ts'
import type { Chain, NetworkChain } from './plugin-chain.ts'
import type { WatchedConfig } from './watch-config.ts'

export type NetworkLinux = Pick<Linux, 'isPinned' | 'readFileIfExists' | 'runCommand' | 'writeFileAtomic'>

export interface NetworkParts {
  host: PluginHost
  hostPorts: HostPorts
  linux: NetworkLinux
  log: Log
  records: AttachmentRecords
  watched: WatchedConfig
  timeoutMs: Record<CniVerb, number>
}

export const networkChain = (
  { host, timeoutMs, log }: NetworkParts,
  config: NetworkConfig,
  signal?: AbortSignal,
): NetworkChain => ({ host, config, timeoutMs, log, signal })

export const chainOf = (
  parts: NetworkParts,
  { config, attachment }: AttachmentRecord,
  signal?: AbortSignal,
): Chain => ({ ...networkChain(parts, config, signal), pod: attachment })

/** CNI says: an empty path when the namespace is gone. A leftover of the pin that is no namespace is the same. */
export const netnsFor = ({ linux }: NetworkParts, pod: PodAttachment): string =>
  linux.isPinned(pod.netnsPath) ? pod.netnsPath : ''

/** @throws RuntimeError failed-precondition saying why there is none */
export const currentConfig = ({ watched }: NetworkParts): NetworkConfig => {
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
