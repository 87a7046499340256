/** ADD: the sandbox joins the pod network, its host ports lead to it; or all of it is undone. */
import { isIP } from 'node:net'
import { RuntimeError } from '#proto/errors.ts'
import { checkAttachment, ownPortMappings, type PodAttachment } from './attachment.ts'
import type { AttachmentRecord } from './attachment-records.ts'
import { type CniResult, type NetworkResult, networkResult, prefixLengthOf } from './cni-result.ts'
import { detachSandbox } from './detach-sandbox.ts'
import type { PodAddress } from './host-ports/rules.ts'
import { chainOf, currentConfig, type NetworkParts, netnsFor } from './network-parts.ts'
import { type AddOutcome, addChain, undoChain } from './plugin-chain.ts'

/** A pod's addresses as the host ports want them. */
export const podAddresses = (raw: CniResult): PodAddress[] =>
  networkResult(raw).ips.map((address) => ({
    family: isIP(address) === 4 ? 4 : 6,
    address,
    prefixLength: prefixLengthOf(raw, address),
  }))

/** Undoes a failed ADD as far as it came. Its own failure is logged; the record that then stays is the debt. */
const undo = async (parts: NetworkParts, record: AttachmentRecord, outcome: AddOutcome): Promise<void> => {
  const { sandboxId } = record.attachment
  try {
    await parts.hostPorts.withdraw(sandboxId)
    // Without the caller's signal: it may be what ended the ADD.
    await undoChain(chainOf(parts, record), outcome, netnsFor(parts, record.attachment))
    await parts.records.remove(sandboxId)
  } catch (error) {
    parts.log.warn('Cannot undo a failed network attachment, keep it for detach', { sandbox: sandboxId, error })
  }
}

const resultOf = (
  { linux }: NetworkParts,
  { attachment }: AttachmentRecord,
  { result, failure }: AddOutcome,
): NetworkResult => {
  if (failure !== undefined) throw failure.error
  if (!linux.isPinned(attachment.netnsPath)) {
    throw new RuntimeError('internal', `Network namespace "${attachment.netnsPath}" vanished while it was attached`)
  }
  return networkResult(result ?? {})
}

/** Told how far it has come. */
export interface AttachStages {
  /** The intent is on disk; the plugins are next. */
  recorded(): void
  /** The plugins are done; their result is not on disk yet. */
  added(): void
  /** The result is on disk; host ports are next. */
  written(): void
}

const add = async (
  parts: NetworkParts,
  record: AttachmentRecord,
  signal: AbortSignal | undefined,
  stages: AttachStages | undefined,
): Promise<NetworkResult> => {
  await parts.records.writeIntent(record)
  stages?.recorded()
  const outcome = await addChain(chainOf(parts, record, signal))
  stages?.added()
  try {
    const result = resultOf(parts, record, outcome)
    const { sandboxId } = record.attachment
    await parts.records.writeResult(sandboxId, result.raw)
    stages?.written()
    await parts.hostPorts.publish(sandboxId, podAddresses(result.raw))
    return result
  } catch (error) {
    await undo(parts, record, outcome)
    throw error
  }
}

/** See PodNetwork.attach. */
export const attachSandbox = async (
  parts: NetworkParts,
  pod: PodAttachment,
  signal?: AbortSignal,
  stages?: AttachStages,
): Promise<NetworkResult> => {
  checkAttachment(pod)
  const config = currentConfig(parts)
  // A record is an ADD that nobody took the result of, by a daemon that died: no second ADD without a DEL.
  await detachSandbox(parts, pod, undefined, signal)
  parts.hostPorts.reserve(pod.sandboxId, ownPortMappings(pod, config.plugins))
  try {
    return await add(parts, { attachment: pod, config }, signal, stages)
  } catch (error) {
    // When the intent could not be written there is nothing else to undo.
    await parts.hostPorts.withdraw(pod.sandboxId).catch(() => {})
    throw error
  }
}
