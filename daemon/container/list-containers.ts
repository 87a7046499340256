/** ListContainers: from memory, without waiting for anybody; oldest first. */
import { type ContainerFilter, ContainerState } from '#proto/generated/api.ts'
import { hasLabels } from '../has-labels.ts'
import type { Parts } from '../parts.ts'
import type { Container, ContainerStatus } from './container.ts'

const filterState: Partial<Record<ContainerState, ContainerStatus['state']>> = {
  [ContainerState.CONTAINER_CREATED]: 'created',
  [ContainerState.CONTAINER_RUNNING]: 'running',
  [ContainerState.CONTAINER_EXITED]: 'exited',
}

export function listContainers(
  { containers }: Pick<Parts, 'containers'>,
  filter: ContainerFilter | undefined,
): Container[] {
  const matches = ({ record, status }: Container): boolean =>
    (!filter?.id || record.id.startsWith(filter.id)) &&
    (!filter?.podSandboxId || record.sandboxId.startsWith(filter.podSandboxId)) &&
    (!filter?.state || filterState[filter.state.state] === status.state) &&
    hasLabels(record.config.labels, filter?.labelSelector)
  return containers
    .visible()
    .filter(matches)
    .sort((a, b) => (a.record.createdAt < b.record.createdAt ? -1 : 1))
}
