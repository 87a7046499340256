/** ContainerStats and its list: counters of the kernel and of the storage, read when asked. No process is started, no tree is walked. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ContainerStatsFilter } from '#proto/generated/api.ts'
import type { MeasuredUsage } from '#storage/snapshot/writable-usage.ts'
import { type Container, isLive } from '../container/container.ts'
import { hasLabels } from '../has-labels.ts'
import type { Parts } from '../parts.ts'
import type { Usage, UsageMeter } from './usage.ts'

export type StatsNeeds = Pick<Parts, 'containers' | 'sandboxes' | 'stats' | 'storage'>

export interface ContainerReading {
  readonly container: Container
  /** Undefined for a container that has ended: it uses nothing but its writable layer. */
  readonly usage: Usage | undefined
  readonly writableLayer: MeasuredUsage | undefined
}

/** Long enough for a rate, short enough for a caller. */
const SECOND_LOOK_MS = 250

/** @throws RuntimeError not-found, or invalid-argument for an ambiguous id */
export async function containerStats(needs: StatsNeeds, idOrPrefix: string): Promise<ContainerReading> {
  needs.stats.asked()
  const first = readContainer(needs, needs.containers.require(idOrPrefix))
  await untilSecondLook([first.usage])
  return readAgain(needs, first)
}

/** Of the containers that are not at their end; oldest first. Filters that fit nothing get nothing. */
export async function listContainerStats(
  needs: StatsNeeds,
  filter: ContainerStatsFilter | undefined,
): Promise<ContainerReading[]> {
  needs.stats.asked()
  const first = liveContainers(needs, filter).map((container) => readContainer(needs, container))
  await untilSecondLook(first.map(({ usage }) => usage))
  return first.map((reading) => readAgain(needs, reading))
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

/** @param tasks whether they are to be counted; a container's statistics do not tell them */
export function readContainer(needs: StatsNeeds, container: Container, tasks = false): ContainerReading {
  const writableLayer = needs.storage.rootfs.usageOf(container.record.id)
  const usage = isLive(container) ? meterOf(needs, container).read({ tasks }) : undefined
  return { container, writableLayer, usage }
}

function meterOf({ stats }: StatsNeeds, container: Container): UsageMeter {
  const ageMs = () => Date.now() - Number(container.record.createdAt / 1_000_000n)
  return stats.meters.of(stats.cgroupOf(container), ageMs)
}

/** Where one look was not enough for the rate of processor use, a second one is due a moment later. */
export async function untilSecondLook(usages: readonly (Usage | undefined)[]): Promise<void> {
  if (usages.some(needsSecondLook)) await sleep(SECOND_LOOK_MS, undefined, { ref: false })
}

export function readAgain(needs: StatsNeeds, reading: ContainerReading): ContainerReading {
  const { container, usage } = reading
  return usage && needsSecondLook(usage) ? { ...reading, usage: meterOf(needs, container).readAgain(usage) } : reading
}

const needsSecondLook = (usage: Usage | undefined): boolean =>
  usage?.cpu !== undefined && usage.cpu.nanoCores === undefined
