/** GC of CNI 1.1: has the plugins give back what belongs to no sandbox, such as addresses of pods that a crash made forgotten. */
import { isVersion11, type NetworkConfig } from './cni-config.ts'
import type { Detachments } from './detachments.ts'
import type { Gate } from './gate.ts'
import { type NetworkParts, networkChain } from './network-parts.ts'
import { gcChain } from './plugin-chain.ts'

/**
 * Runs GC when the network of now has it and wants it. What sandboxes hold that are gone but could not be detached may go, too.
 */
export const collectAttachments = async (
  parts: NetworkParts,
  detachments: Detachments,
  gate: Gate,
  signal: AbortSignal,
): Promise<void> => {
  const config = parts.watched.current()
  if (config === undefined || !isVersion11(config) || config.disableGC) return
  await gate.alone(async () => {
    const attached = parts.records.list()
    const valid = attached.filter((id) => !detachments.isLeft(id))
    const isDone = await gcChain(networkChain(parts, config, signal), valid)
    parts.log.debug('Collected the garbage of the pod network', { network: config.name, valid: valid.length, isDone })
    if (!isDone) return
    for (const id of attached.filter((each) => detachments.isLeft(each))) {
      if (!(await isCovered(parts, id, config))) continue
      await parts.records.remove(id)
      detachments.isPaid(id)
    }
  }, signal)
}

/** GC of one network says nothing about what another one, or plugins that are not in it any more, gave. */
const isCovered = async (
  { records }: NetworkParts,
  sandboxId: string,
  { plugins }: NetworkConfig,
): Promise<boolean> => {
  const read = await records.read(sandboxId)
  return read.state === 'present' && JSON.stringify(read.record.config.plugins) === JSON.stringify(plugins)
}
