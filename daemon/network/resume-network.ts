/** After a restart: host ports lead to what is attached and to nothing else, and what is gone is detached in the background. */
import { messageOf } from '#proto/errors.ts'
import { podAddresses } from './attach-sandbox.ts'
import { ownPortMappings } from './attachment.ts'
import type { Detachments } from './detachments.ts'
import type { PublishedHostPorts } from './host-ports/host-ports.ts'
import type { NetworkParts } from './network-parts.ts'

/** What has become of a sandbox with an attachment on record. */
export type Fate = 'attached' | 'being stopped' | 'gone'

/** A record that cannot be used any more must not keep the ports of others closed. */
const addHostPorts = async (
  { records, log }: NetworkParts,
  published: PublishedHostPorts,
  id: string,
): Promise<void> => {
  const read = await records.read(id)
  if (read.state !== 'present' || read.result === undefined) return
  const mappings = ownPortMappings(read.record.attachment, read.record.config.plugins)
  if (mappings.length === 0) return
  try {
    published.set(id, { mappings, addresses: podAddresses(read.result) })
  } catch (error) {
    log.warn('Host ports of a sandbox are lost', { sandbox: id, why: messageOf(error) })
  }
}

/** See PodNetwork.resume. */
export const resumeNetwork = async (
  parts: NetworkParts,
  detachments: Detachments,
  fateOf: (sandboxId: string) => Fate,
): Promise<void> => {
  const published: PublishedHostPorts = new Map()
  for (const id of parts.records.list()) {
    const fate = fateOf(id)
    if (fate === 'attached') await addHostPorts(parts, published, id)
    if (fate === 'gone') detachments.takeOver(id)
  }
  try {
    await parts.hostPorts.replaceAll(published)
  } catch (error) {
    parts.log.error('Cannot bring host ports up to date', { why: messageOf(error) })
  }
}
