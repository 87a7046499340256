/** On which processors further commands in a container run: one of its own, where its handler is configured so. */
import { execCpu } from '../oci/spec/exec-cpu.ts'
import type { Container } from './container.ts'
import { type DecideNeeds, decidedResources } from './decided-resources.ts'

/** undefined: on any of the container's. */
export function execAffinity(needs: DecideNeeds, container: Container): ReadonlySet<number> | undefined {
  const { execCpuAffinity } = needs.handlers.of(container.record)
  if (execCpuAffinity === undefined) return undefined
  const cpu = execCpu(execCpuAffinity, decidedResources(needs, container)?.cpusetCpus ?? '')
  return cpu === undefined ? undefined : new Set([cpu])
}
