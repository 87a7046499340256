/** What a container with processors of its own asks of the node; undefined for nearly all, which ask for nothing. */
import { messageOf } from '#proto/errors.ts'
import type { Isolated } from '../cpu-isolation/cpu-isolation.ts'
import { housekeepingCpus } from '../cpu-isolation/housekeeping.ts'
import { asksForAnything, isolationWishes } from '../cpu-isolation/wishes.ts'
import { hostCgroupPath } from '../oci/cgroup-path.ts'
import { exclusiveCpus } from '../oci/spec/exclusive-cpus.ts'
import type { Parts } from '../parts.ts'
import type { Container } from './container.ts'
import { type DecideNeeds, decidedResources } from './decided-resources.ts'
import { annotationsOf } from './node-features.ts'

/** As `isolatedOf`, for those who cannot refuse: what was malformed then was never begun. */
export function formerlyIsolated(needs: DecideNeeds & Pick<Parts, 'log'>, container: Container): Isolated | undefined {
  try {
    return isolatedOf(needs, container)
  } catch (error) {
    needs.log.warn('Cannot tell what a container asked of its processors', {
      container: container.record.id,
      why: messageOf(error),
    })
    return undefined
  }
}

/** @throws RuntimeError invalid-argument for an annotation that is malformed */
export function isolatedOf(needs: DecideNeeds, container: Container): Isolated | undefined {
  const { cgroupsPath, config, sandboxId } = container.record
  const sandbox = needs.sandboxes.get(sandboxId)
  const handler = needs.handlers.of(container.record)
  if (!sandbox || (!handler.allowedAnnotations?.length && Object.keys(needs.config.workloads).length === 0))
    return undefined
  const { features } = annotationsOf(needs.config, handler, sandbox, config)
  const parent = sandbox.record.config.linux?.cgroupParent ?? ''
  const cpus = exclusiveCpus(decidedResources(needs, container), parent)
  if (!cpus) return undefined
  const wishes = isolationWishes({ features, cpus, housekeeping: housekeepingCpus(cpus) })
  return asksForAnything(wishes) ? { wishes, cgroup: hostCgroupPath(cgroupsPath) } : undefined
}
