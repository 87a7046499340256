/** PodSandboxStats and its list: what the pod as a whole uses, its network, and each of its containers. */
import type { PodSandboxStatsFilter } from '#proto/generated/api.ts'
import type { Container } from '../container/container.ts'
import { hasLabels } from '../has-labels.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import { type ContainerReading, containerReading, liveContainers, meterOf, type StatsNeeds } from './container-stats.ts'
import type { NetworkUsage } from './pod-network.ts'
import { readUsages } from './read-usages.ts'
import { ownsItsCgroup } from './sandbox-cgroups.ts'
import { sumOfUsages, type Usage, type UsageMeter } from './usage.ts'

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
  const pods = sandboxes.map((sandbox) => {
    const isReady = sandbox.status.state === 'ready'
    const meters = isReady ? metersOf(needs, sandbox, owns(sandbox)) : []
    const own = containers.get(sandbox.record.id) ?? []
    return { sandbox, isReady, meters, own, network: isReady ? network(sandbox) : undefined }
  })
  const { usages, others } = await readUsages(
    needs.linux,
    pods.flatMap(({ own }) => own.map((container) => meterOf(needs, container))),
    pods.flatMap(({ meters }) => meters),
  )
  const [nextOfContainers, nextOfPods] = [inOrder(usages), inOrder(others)]
  return pods.map(({ sandbox, isReady, meters, own, network: traffic }) => {
    const [ofContainers, ofPod] = [nextOfContainers(own.length), nextOfPods(meters.length)]
    return {
      sandbox,
      network: traffic,
      usage: isReady ? podUsage(ofPod, ofContainers, owns(sandbox)) : undefined,
      containers: own.map((container, index) => containerReading(needs, container, ofContainers[index])),
    }
  })
}

/** Gives the next so many of a list. */
function inOrder<T>(list: readonly T[]): (count: number) => readonly T[] {
  let next = 0
  return (count) => {
    next += count
    return list.slice(next - count, next)
  }
}

/** Of the pod's own cgroup, or else of what we have started in the pod besides its containers. */
function metersOf({ stats }: StatsNeeds, sandbox: Sandbox, ownsCgroup: boolean): UsageMeter[] {
  const { pod, init } = stats.cgroupsOf(sandbox)
  return [...(ownsCgroup && pod !== undefined ? [pod] : []), ...(init === undefined ? [] : [init])].map((path) =>
    stats.meters.ofPod(path),
  )
}

/** That of the pod's own cgroup, which is the first, or else the sum of all that we have started in the pod. */
function podUsage(ofPod: readonly Usage[], ofContainers: readonly Usage[], ownsCgroup: boolean): Usage {
  const whole = ownsCgroup ? ofPod[0] : undefined
  const init = ownsCgroup ? ofPod.slice(1) : ofPod
  const parts = () => sumOfUsages([...ofContainers, ...init])
  if (whole?.cpu === undefined && whole?.memory === undefined) return parts()
  if (whole.cpu === undefined || whole.cpu.nanoCores !== undefined) return whole
  // Its cgroup may be older than the sandbox, so that only a second look at it would tell; what is in it is known already.
  return { ...whole, cpu: { ...whole.cpu, nanoCores: parts().cpu?.nanoCores ?? 0 } }
}
