/**
 * UpdatePodSandboxResources: the kubelet tells, after it has resized the pod's cgroup itself, what the pod may use now. There
 * is nothing to do for a runtime whose sandboxes are cgroups of the kubelet; the numbers are kept for those who look.
 */
import type { LinuxContainerResources } from '#proto/generated/api.ts'
import { mergeResources, noResources } from '../oci/resources-record.ts'
import type { Parts } from '../parts.ts'
import type { Sandbox } from './sandbox.ts'

export interface PodResources {
  /** What the runtime itself may use on top, for sandboxes that are virtual machines. */
  readonly overhead: LinuxContainerResources | undefined
  /** The sum over the containers. */
  readonly resources: LinuxContainerResources | undefined
}

/** A sandbox that has stopped keeps what it had. @throws RuntimeError not-found, failed-precondition when a plugin says no */
export async function updateSandboxResources(
  { nri, sandboxes }: Pick<Parts, 'nri' | 'sandboxes'>,
  idOrPrefix: string,
  change: PodResources,
): Promise<void> {
  const sandbox = sandboxes.require(idOrPrefix)
  await nri.pods.update(sandbox, change)
  const overhead = merged(podResources(sandbox).overhead, change.overhead)
  const resources = merged(podResources(sandbox).resources, change.resources)
  await sandbox.update((status) =>
    status.state === 'ready' ? { ...status, ...(overhead && { overhead }), ...(resources && { resources }) } : status,
  )
  nri.pods.isUpdated(sandbox)
}

const merged = (current: LinuxContainerResources | undefined, change: LinuxContainerResources | undefined) =>
  change ? mergeResources(current ?? noResources(), change) : current

/** What is in force: the last update, or the request. */
export function podResources({ record, status }: Sandbox): PodResources {
  const updated = status.state === 'ready' ? status : undefined
  return {
    overhead: updated?.overhead ?? record.config.linux?.overhead,
    resources: updated?.resources ?? record.config.linux?.resources,
  }
}
