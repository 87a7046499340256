/** The containers of a pod, those of its earlier sandboxes too: a pod whose sandbox was made anew has not lost its history. */
import type { Container } from '../container/container.ts'
import type { Parts } from '../parts.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'

/** Oldest first. */
export function containersOfPod(
  { containers, sandboxes }: Pick<Parts, 'containers' | 'sandboxes'>,
  { record }: Sandbox,
): Container[] {
  const uid = record.config.metadata?.uid
  const ofPod = sandboxes.all().filter((other) => uid && other.record.config.metadata?.uid === uid)
  const ids = new Set([record.id, ...ofPod.map((other) => other.record.id)])
  return containers
    .visible()
    .filter((container) => ids.has(container.record.sandboxId))
    .sort((a, b) => (a.record.createdAt < b.record.createdAt ? -1 : 1))
}
