/**
 * Give back what an ended container holds: the OCI runtime's state and cgroup, and its mounts. Its files, log and
 * record stay until RemoveContainer. Repeatable.
 */
import { isKind } from '#proto/errors.ts'
import { runtimeCli } from '../oci/runtime-cli.ts'
import type { Parts } from '../parts.ts'
import { unbindSources } from './bound-mounts.ts'
import type { Container } from './container.ts'
import type { DecideNeeds } from './decided-resources.ts'
import { unmountImageVolumes } from './image-volumes.ts'
import { formerlyIsolated } from './isolated.ts'

export type RetireNeeds = DecideNeeds &
  Pick<Parts, 'isolation' | 'linux' | 'locks' | 'log' | 'paths' | 'seccompNotifier' | 'storage'>

export async function retire(needs: RetireNeeds, container: Container): Promise<void> {
  const { id } = container.record
  using _ = await needs.locks.take(`retire:${id}`)
  needs.seccompNotifier.forget(id)
  // Before its cgroup goes: the processors of a partition that is removed stay set aside.
  const isolated = formerlyIsolated(needs, container)
  if (isolated) await needs.isolation.end(id, isolated)
  await runtimeCli(needs.handlers.of(container.record)).delete(id, { force: true })
  try {
    await needs.storage.rootfs.unmount(id)
  } catch (error) {
    if (!isKind(error, 'not-found')) throw error
  }
  await unmountImageVolumes(needs, container.record)
  unbindSources(needs, needs.paths.container(id), container.record.config)
}
