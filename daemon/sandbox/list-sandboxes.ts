/** ListPodSandbox: from memory, without waiting for anybody; oldest first. */
import { type PodSandboxFilter, PodSandboxState } from '#proto/generated/api.ts'
import { hasLabels } from '../has-labels.ts'
import type { Parts } from '../parts.ts'
import type { Sandbox } from './sandbox.ts'

export function listSandboxes(
  { sandboxes }: Pick<Parts, 'sandboxes'>,
  filter: PodSandboxFilter | undefined,
): Sandbox[] {
  const ready = filter?.state && filter.state.state === PodSandboxState.SANDBOX_READY
  return sandboxes
    .visible()
    .filter(
      (sandbox) =>
        (!filter?.id || sandbox.record.id.startsWith(filter.id)) &&
        (ready === undefined || ready === (sandbox.status.state === 'ready')) &&
        hasLabels(sandbox.record.config.labels, filter?.labelSelector),
    )
    .sort((a, b) => (a.record.createdAt < b.record.createdAt ? -1 : 1))
}
