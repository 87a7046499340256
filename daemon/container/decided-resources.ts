/** The limits of a container as this node has them: a workload's, and without a CPU limit where an annotation lifts it. */
import type { LinuxContainerResources } from '#proto/generated/api.ts'
import { exclusiveCpus } from '../oci/spec/exclusive-cpus.ts'
import { wantsNoQuota } from '../oci/spec/node-options.ts'
import type { Parts } from '../parts.ts'
import { withWorkload, workloadOf } from '../workloads/workload.ts'
import { type Container, resourcesOf } from './container.ts'
import { annotationsOf } from './node-features.ts'

export type DecideNeeds = Pick<Parts, 'config' | 'handlers' | 'sandboxes'>

/** @param resources those to decide on, when not those that are in force */
export function decidedResources(
  needs: DecideNeeds,
  container: Container,
  resources = resourcesOf(container),
): LinuxContainerResources | undefined {
  const { config, sandboxId } = container.record
  const sandbox = needs.sandboxes.get(sandboxId)
  if (!sandbox) return resources
  const pod = sandbox.record.config
  const workload = workloadOf(needs.config.workloads, pod.annotations)
  const decided = withWorkload(resources, workload, pod.annotations, config.metadata?.name ?? '')
  const { features } = annotationsOf(needs.config, needs.handlers.of(container.record), sandbox, config)
  const isLifted = wantsNoQuota(features) && exclusiveCpus(decided, pod.linux?.cgroupParent ?? '') !== undefined
  return decided && isLifted ? { ...decided, cpuQuota: -1n } : decided
}
