/** RemoveContainer: kill it if it runs, give back everything, forget it. Repeatable (api.proto, RemoveContainer). */
import type { Parts } from '../parts.ts'
import type { Container } from './container.ts'
import { removeDeclaredVolumes } from './declared-volumes.ts'
import { removeImageVolumes } from './image-volumes.ts'
import { removeFiles } from './remove-files.ts'
import { type RetireNeeds, retire } from './retire.ts'
import { type StopNeeds, stop } from './stop-container.ts'

export type RemoveNeeds = StopNeeds & RetireNeeds & Pick<Parts, 'nri' | 'paths'>

export async function removeContainer(needs: RemoveNeeds, idOrPrefix: string, signal?: AbortSignal): Promise<void> {
  const container = needs.containers.find(idOrPrefix)
  if (container) await remove(needs, container, signal)
}

/** Remove this container; the record goes last, so that a removal that was cut short can be repeated. */
export async function remove(needs: RemoveNeeds, container: Container, signal?: AbortSignal): Promise<void> {
  const { id } = container.record
  // Also waits for a creation that is still on its way (of a sandbox that is being removed): it undoes itself.
  using _ = await needs.locks.take(id, signal)
  if (!needs.containers.get(id)) return
  using operation = needs.operations.begin('RemoveContainer', id)
  operation.enter('stop')
  await stop(needs, container, 0, signal)
  operation.enter('retire')
  await retire(needs, container)
  operation.enter('plugins')
  await needs.nri.containers.remove(container)
  operation.enter('rootfs')
  await removeImageVolumes(needs, container.record)
  await removeDeclaredVolumes(needs.paths.container(id))
  await needs.storage.rootfs.remove(id)
  operation.enter('files')
  await removeFiles(needs, needs.paths.container(id).checkpoint)
  await removeFiles(needs, needs.paths.container(id).dir)
  operation.enter('record')
  await needs.containers.delete(id)
  operation.enter('reply')
}
