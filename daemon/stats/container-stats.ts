/** ContainerStats and its list: counters of the kernel and of the storage, read when asked. No process is started, no tree is walked. */
import type { ContainerStatsFilter } from '#proto/generated/api.ts'
import type { MeasuredUsage } from '#storage/snapshot/writable-usage.ts'
import { type Container, isLive } from '../container/container.ts'
import { hasLabels } from '../has-labels.ts'
import type { Parts } from '../parts.ts'
import { readUsages } from './read-usages.ts'
import type { Usage, UsageMeter } from './usage.ts'

export type StatsNeeds = Pick<Parts, 'containers' | 'linux' | 'sandboxes' | 'stats' | 'storage'>

export interface ContainerReading {
  readonly container: Container
  /** Undefined for a container that has ended: it uses nothing but its writable layer. */
  readonly usage: Usage | undefined
  readonly writableLayer: MeasuredUsage | undefined
}

/** @throws RuntimeError not-found, or invalid-argument for an ambiguous id */
export async function containerStats(needs: StatsNeeds, idOrPrefix: string): Promise<ContainerReading> {
  needs.stats.asked()
  const container = needs.containers.require(idOrPrefix)
  const [usage] = isLive(container) ? (await readUsages(needs.linux, [meterOf(needs, container)])).usages : []
  return containerReading(needs, container, usage)
}

/** Of the containers that are not at their end; oldest first. Filters that fit nothing get nothing. */
export async function listContainerStats(
  needs: StatsNeeds,
  filter: ContainerStatsFilter | undefined,
): Promise<ContainerReading[]> {
  needs.stats.asked()
  const containers = liveContainers(needs, filter)
  const { usages } = await readUsages(
    needs.linux,
    containers.map((container) => meterOf(needs, container)),
  )
  return containers.map((container, index) => containerReading(needs, container, usages[index]))
}

export function liveContainers({ containers }: Pick<Parts, 'containers'>, filter?: ContainerStatsFilter): Container[] {
  return containers
    .visible()
    .filter(
      (container) =>
        isLive(container) &&
        (!filter?.id || container.record.id.startsWith(filter.id)) &&
        (!filter?.podSandboxId || container.record.sandboxId.startsWith(filter.podSandboxId)) &&
        hasLabels(container.record.config.labels, filter?.labelSelector),
    )
    .sort((a, b) => (a.record.createdAt < b.record.createdAt ? -1 : 1))
}

export function containerReading(
  { storage }: StatsNeeds,
  container: Container,
  usage: Usage | undefined,
): ContainerReading {
  return { container, usage, writableLayer: storage.rootfs.usageOf(container.record.id) }
}

export function meterOf({ stats }: StatsNeeds, container: Container): UsageMeter {
  const ageMs = () => Date.now() - Number(container.record.createdAt / 1_000_000n)
  return stats.meters.of(stats.cgroupOf(container), ageMs)
}
