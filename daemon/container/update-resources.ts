/**
 * UpdateContainerResources: all of the new limits or none. Checked as a whole before anything is touched, applied by the
 * OCI runtime, then written down; whatever fails on the way puts the kernel's values back.
 *
 * The bundle's config.json keeps the limits that the container was created with: nothing reads them there once it exists,
 * and a second copy would be a second truth. ContainerStatus shows what is in force, in `resources` and in the verbose spec.
 */
import type { CgroupLimit } from '#linux/cgroup-limits.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { LinuxContainerResources } from '#proto/generated/api.ts'
import type { ChangedLimits } from '../nri/ask-update.ts'
import { hostCgroupPath } from '../oci/cgroup-path.ts'
import { mergeResources, noResources } from '../oci/resources-record.ts'
import { runtimeCli } from '../oci/runtime-cli.ts'
import { overlayOci } from '../oci/spec/overlay-resources.ts'
import { resourceLimits } from '../oci/spec/resources.ts'
import type { OciResources } from '../oci/spec/types.ts'
import type { Parts } from '../parts.ts'
import { type Container, resourcesOf } from './container.ts'
import { type DecideNeeds, decidedResources } from './decided-resources.ts'
import { isolatedOf } from './isolated.ts'

export type UpdateNeeds = DecideNeeds &
  Pick<Parts, 'containers' | 'isolation' | 'linux' | 'locks' | 'log' | 'nri' | 'specHost'>

/**
 * Fields left at zero change nothing. Only created and running containers can be updated.
 * @throws RuntimeError not-found; invalid-argument; failed-precondition for what host or container cannot bear now
 */
export async function updateResources(
  needs: UpdateNeeds,
  idOrPrefix: string,
  change: LinuxContainerResources | undefined,
  signal?: AbortSignal,
): Promise<void> {
  const container = needs.containers.require(idOrPrefix)
  using _ = await needs.locks.take(container.record.id, signal)
  requireLive(container)
  const asked = change ?? noResources()
  // Judged alone first, so that the message speaks of what was asked for.
  resourceLimits(asked, needs.specHost)
  await changeLimits(needs, container, await needs.nri.containers.update(container, asked), signal)
  needs.nri.containers.isUpdated(container)
}

/**
 * A plugin's wish, by itself or in answer to what another container does. It waits for no call on this container, as that call may be
 * waiting for the plugin.
 * @throws RuntimeError as `updateResources`
 */
export async function updateForPlugin(needs: UpdateNeeds, id: string, limits: ChangedLimits): Promise<void> {
  await changeLimits(needs, needs.containers.require(id), limits)
}

async function changeLimits(
  needs: UpdateNeeds,
  container: Container,
  { change, beyond }: ChangedLimits,
  signal?: AbortSignal,
): Promise<void> {
  using _ = await needs.locks.take(`limits:${container.record.id}`, signal)
  requireLive(container)
  resourceLimits(change, needs.specHost)
  const wanted = mergeResources(resourcesOf(container) ?? noResources(), change)
  const { resources, warnings } = resourceLimits(decidedResources(needs, container, wanted), needs.specHost)
  requireRoom(needs, container, change.memoryLimitInBytes)
  for (const warning of warnings) needs.log.debug(warning, { container: container.record.id })
  await apply(needs, container, wanted, overlayOci(resources, beyond))
  const isolated = container.status.state === 'running' ? isolatedOf(needs, container) : undefined
  if (isolated) await needs.isolation.begin(container.record.id, isolated)
}

function requireLive({ record, status }: Container): void {
  if (status.state !== 'created' && status.state !== 'running') throw notLive(record.id, status.state)
  if (!status.init) throw notLive(record.id, 'not restored yet')
}

const notLive = (id: string, state: string): RuntimeError =>
  new RuntimeError('failed-precondition', `Cannot update the resources of container "${id}": it is ${state}`)

/** The kernel would kill processes to get below the limit (version 2), or refuse it half-way (version 1). */
function requireRoom({ linux }: UpdateNeeds, { record }: Container, limit: bigint): void {
  if (limit <= 0n) return
  const used = linux.workingSetBytes(hostCgroupPath(record.cgroupsPath))
  if (used === undefined || BigInt(used) <= limit) return
  throw new RuntimeError(
    'failed-precondition',
    `memory_limit_in_bytes ${limit} is less than the ${used} bytes that container "${record.id}" uses`,
  )
}

async function apply(
  needs: UpdateNeeds,
  container: Container,
  wanted: LinuxContainerResources,
  resources: OciResources,
): Promise<void> {
  const { id, cgroupsPath } = container.record
  const cgroup = hostCgroupPath(cgroupsPath)
  const before = needs.linux.readLimits(cgroup, Object.keys(resources.unified ?? {}))
  try {
    await runtimeCli(needs.handlers.of(container.record)).update(id, resources)
    limitHugepages(needs, cgroup, resources)
    await container.update((status) => {
      // It may have ended meanwhile: then there is nothing that the new limits could be in force for.
      if (status.state !== 'created' && status.state !== 'running') throw notLive(id, status.state)
      return { ...status, resources: wanted }
    })
  } catch (error) {
    putBack(needs, container, before)
    throw error
  }
}

/** runc 1.1 passes over them in `update`. */
function limitHugepages({ linux }: UpdateNeeds, cgroup: string, { hugepageLimits = [] }: OciResources): void {
  for (const { pageSize, limit } of hugepageLimits) {
    const file = linux.hugepageFile(pageSize)
    try {
      linux.writeCgroupFile('hugetlb', cgroup, file, String(limit))
    } catch (cause) {
      throw new RuntimeError('failed-precondition', `Cannot limit huge pages of ${pageSize} to ${limit}`, { cause })
    }
  }
}

function putBack({ linux, log }: UpdateNeeds, { record }: Container, before: readonly CgroupLimit[]): void {
  try {
    linux.restoreLimits(hostCgroupPath(record.cgroupsPath), before)
  } catch (error) {
    log.error('Cannot put back the limits of a container', { container: record.id, why: messageOf(error) })
  }
}
