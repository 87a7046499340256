/** Whether pods may have user namespaces of their own: the runtime, the kernel and the file system must all play along. */
import { chmod, chown } from 'node:fs/promises'
import type { IdMap } from '#linux/user-namespace.ts'
import type { RuntimeHandler } from '../oci/runtime-handlers.ts'
import type { Parts } from '../parts.ts'

export const offersUserNamespaces = (
  { host, storage }: Pick<Parts, 'host' | 'storage'>,
  handler: RuntimeHandler,
): boolean => handler.features.userNamespaces && host.userNamespaces && storage.mapsIds

/** The container's root, as the host sees it. */
export const rootOf = (map: IdMap | undefined): { uid: number; gid: number } => ({
  uid: map?.uids.hostId ?? 0,
  gid: map?.gids.hostId ?? 0,
})

/**
 * A directory of the daemon's own that the pod's root has to pass through, to where the runtime's rights on the host end.
 * It may not list it, and nobody else may even pass.
 */
export async function letPass(dir: string, map: IdMap | undefined): Promise<void> {
  if (!map) return
  await chown(dir, 0, map.gids.hostId)
  await chmod(dir, 0o710)
}
