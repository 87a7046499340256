/** DEL: gives back what ADD took, with the configuration of the time of attach. */
import type { PodAttachment } from './attachment.ts'
import type { AttachmentRecord } from './attachment-records.ts'
import type { CniResult, NetworkResult } from './cni-result.ts'
import { chainOf, currentConfig, type NetworkParts, netnsFor } from './network-parts.ts'
import { deleteChain } from './plugin-chain.ts'

const remove = async (
  parts: NetworkParts,
  record: AttachmentRecord,
  result: CniResult | undefined,
  signal?: AbortSignal,
): Promise<void> => {
  const chain = chainOf(parts, record, signal)
  await deleteChain(chain, record.config.plugins, netnsFor(parts, record.attachment), result)
  await parts.records.remove(record.attachment.sandboxId)
}

/** See PodNetwork.detach. */
export const detachSandbox = async (
  parts: NetworkParts,
  pod: PodAttachment,
  given?: NetworkResult,
  signal?: AbortSignal,
): Promise<void> => {
  // First: when the address is given back nothing may lead to it any more.
  await parts.hostPorts.withdraw(pod.sandboxId)
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
