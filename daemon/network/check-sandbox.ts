/** CHECK: whether the attachment is as the plugins left it. */
import { RuntimeError } from '#proto/errors.ts'
import type { PodAttachment } from './attachment.ts'
import { chainOf, type NetworkParts } from './network-parts.ts'
import { checkChain } from './plugin-chain.ts'

/** See PodNetwork.check. */
export const checkSandbox = async (parts: NetworkParts, pod: PodAttachment, signal?: AbortSignal): Promise<void> => {
  const read = await parts.records.read(pod.sandboxId)
  if (read.state !== 'present' || read.result === undefined) {
    throw new RuntimeError('not-found', `Sandbox "${pod.sandboxId}" is not attached to the pod network`)
  }
  await checkChain(chainOf(parts, read.record, signal), read.result)
}
