/** PodSandboxStats and its list: what the pod as a whole uses, its network, and each of its containers. */
import type { PodSandboxStatsFilter } from '#proto/generated/api.ts'
import type { Container } from '../container/container.ts'
import { hasLabels } from '../has-labels.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import {
  type ContainerReading,
  liveContainers,
  readAgain,
  readContainer,
  type StatsNeeds,
  untilSecondLook,
} from './container-stats.ts'
import type { NetworkUsage } from './pod-network.ts'
import { ownsItsCgroup } from './sandbox-cgroups.ts'
import { sumOfUsages, type Usage } from './usage.ts'

export interface SandboxReading {
  readonly sandbox: Sandbox
  /** Undefined, as the network is, for a sandbox that is stopped. */
  readonly usage: Usage | undefined
  readonly network: NetworkUsage | undefined
  readonly containers: readonly ContainerReading[]
}

/** @throws RuntimeError not-found, or invalid-argument for an ambiguous id */
export async function sandboxStats(needs: StatsNeeds, idOrPrefix: string): Promise<SandboxReading> {
  const sandbox = needs.sandboxes.require(idOrPrefix)
  const own = liveContainers(needs, { id: '', podSandboxId: sandbox.record.id, labelSelector: {} })
  const [reading] = await readSandboxes(needs, [sandbox], new Map([[sandbox.record.id, own]]))
  return reading ?? { sandbox, usage: undefined, network: undefined, containers: [] }
}

/** Of the sandboxes that are ready; oldest first. Filters that fit nothing get nothing. */
export async function listSandboxStats(
  needs: StatsNeeds,
  filter: PodSandboxStatsFilter | undefined,
): Promise<SandboxReading[]> {
  return readSandboxes(needs, readySandboxes(needs, filter), Map.groupBy(liveContainers(needs), sandboxOf))
}

export const sandboxOf = ({ record }: Container) => record.sandboxId

export function readySandboxes(
  { sandboxes }: Pick<StatsNeeds, 'sandboxes'>,
  filter?: PodSandboxStatsFilter,
): Sandbox[] {
  return sandboxes
    .visible()
    .filter(
      ({ record, status }) =>
        status.state === 'ready' &&
        (!filter?.id || record.id.startsWith(filter.id)) &&
        hasLabels(record.config.labels, filter?.labelSelector),
    )
    .sort((a, b) => (a.record.createdAt < b.record.createdAt ? -1 : 1))
}

async function readSandboxes(
  needs: StatsNeeds,
  sandboxes: readonly Sandbox[],
  containers: ReadonlyMap<string, readonly Container[]>,
): Promise<SandboxReading[]> {
  needs.stats.asked()
  const owns = ownsItsCgroup(needs.sandboxes.all())
  const network = needs.stats.networks.reader()
  const first = sandboxes.map((sandbox) => {
    const own = (containers.get(sandbox.record.id) ?? []).map((container) =>
      readContainer(needs, container, !owns(sandbox)),
    )
    const isReady = sandbox.status.state === 'ready'
    return { sandbox, containers: own, network: isReady ? network(sandbox) : undefined, isReady }
  })
  await untilSecondLook(first.flatMap((reading) => reading.containers.map(({ usage }) => usage)))
  return first.map(({ isReady, ...reading }) => {
    const own = reading.containers.map((container) => readAgain(needs, container))
    const usage = isReady ? podUsage(needs, reading.sandbox, own, owns(reading.sandbox)) : undefined
    return { ...reading, containers: own, usage }
  })
}

/** Of the pod's own cgroup, or else of all that we have started in the pod. */
function podUsage(
  { stats }: StatsNeeds,
  sandbox: Sandbox,
  containers: readonly ContainerReading[],
  ownsCgroup: boolean,
): Usage {
  const { pod, init } = stats.cgroupsOf(sandbox)
  const parts = () => {
    const ofContainers = containers.flatMap(({ usage }) => usage ?? [])
    return sumOfUsages(
      init === undefined ? ofContainers : [...ofContainers, stats.meters.of(init).read({ tasks: true })],
    )
  }
  const whole = ownsCgroup && pod !== undefined ? stats.meters.of(pod).read({ tasks: true }) : undefined
  if (whole?.cpu === undefined && whole?.memory === undefined) return parts()
  if (whole.cpu === undefined || whole.cpu.nanoCores !== undefined) return whole
  // Its cgroup may be older than the sandbox, so that only a second look at it would tell; what is in it is known already.
  return { ...whole, cpu: { ...whole.cpu, nanoCores: parts().cpu?.nanoCores ?? 0 } }
}
