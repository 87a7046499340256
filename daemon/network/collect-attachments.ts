/** GC of CNI 1.1: has the plugins give back what belongs to no sandbox, such as addresses of pods that a crash made forgotten. */
import { isVersion11 } from './cni-config.ts'
import type { Gate } from './gate.ts'
import { type NetworkParts, networkChain } from './network-parts.ts'
import { gcChain } from './plugin-chain.ts'

export interface CollectOptions {
  gate: Gate
  /** Sandboxes that are gone but could not be detached: what they hold may go. */
  isOwed(sandboxId: string): boolean
  /** Told of each such sandbox that has been collected. */
  collected(sandboxId: string): void
  signal: AbortSignal
}

/** Runs GC when the network of now has it and wants it. */
export const collectAttachments = async (parts: NetworkParts, options: CollectOptions): Promise<void> => {
  const config = parts.watched.current()
  if (config === undefined || !isVersion11(config) || config.disableGC) return
  const { gate, isOwed, collected, signal } = options
  await gate.alone(async () => {
    const attached = parts.records.list()
    const owed = attached.filter(isOwed)
    const valid = attached.filter((id) => !isOwed(id))
    const isDone = await gcChain(networkChain(parts, config, signal), valid)
    parts.log.debug('Collected the garbage of the pod network', { network: config.name, valid: valid.length, isDone })
    if (!isDone) return
    for (const id of owed) {
      // GC of this network says nothing about what another one, or plugins that are not in it any more, gave.
      const read = await parts.records.read(id)
      if (read.state !== 'present' || JSON.stringify(read.record.config.plugins) !== JSON.stringify(config.plugins))
        continue
      await parts.records.remove(id)
      collected(id)
    }
  }, signal)
}
