/** Tells a new plugin what there is, in as many messages as it takes. */
import { RuntimeError } from '#proto/errors.ts'
import { Container, type ContainerUpdate, PodSandbox } from '#proto/generated/nri.ts'
import { METHODS } from './methods.ts'
import type { Plugin } from './plugin.ts'
import { MAX_MESSAGE_BYTES } from './ttrpc/frames.ts'

export interface Snapshot {
  readonly pods: readonly PodSandbox[]
  readonly containers: readonly Container[]
}

/** What one message may hold, with room for its envelope. */
const MAX_PART_BYTES = MAX_MESSAGE_BYTES - 64 * 1024

/**
 * @param timeoutMs for each part
 * @returns what the plugin wants changed
 * @throws RuntimeError unavailable when it is gone, or does not understand parts
 */
export async function synchronize(
  plugin: Plugin,
  snapshot: Snapshot,
  timeoutMs: number,
): Promise<readonly ContainerUpdate[]> {
  const parts = inParts(snapshot)
  for (const [index, part] of parts.entries()) {
    const more = index < parts.length - 1
    const request = { pods: [...part.pods], containers: [...part.containers], more }
    const answer = await plugin.ask(METHODS.synchronize, request, timeoutMs)
    if (!answer) throw new RuntimeError('unavailable', await plugin.gone)
    if (!more) return answer.update
    if (!answer.more || answer.update.length > 0) {
      plugin.dismiss('it cannot be told of so many containers')
      throw new RuntimeError('unavailable', 'It does not understand synchronization in parts')
    }
  }
  return []
}

/** Pods before the containers that belong to them, none of them twice; at least one part. */
export function inParts({ pods, containers }: Snapshot, maxBytes = MAX_PART_BYTES): Snapshot[] {
  const parts: { pods: PodSandbox[]; containers: Container[]; bytes: number }[] = [
    { pods: [], containers: [], bytes: 0 },
  ]
  const roomFor = (bytes: number) => {
    const last = parts.at(-1)
    if (last && (last.bytes === 0 || last.bytes + bytes <= maxBytes)) {
      last.bytes += bytes
      return last
    }
    const next: (typeof parts)[number] = { pods: [], containers: [], bytes }
    parts.push(next)
    return next
  }
  for (const pod of pods) roomFor(sizeOf(PodSandbox.encode(pod).finish())).pods.push(pod)
  for (const container of containers) roomFor(sizeOf(Container.encode(container).finish())).containers.push(container)
  return parts.map((part) => ({ pods: part.pods, containers: part.containers }))
}

/** As a field of a message, with its tag and length. */
const sizeOf = (bytes: Uint8Array): number => bytes.length + 6
