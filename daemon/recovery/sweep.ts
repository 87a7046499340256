/**
 * What no record owns: directories of sandboxes and containers with their mounts, namespaces and monitors, and writable
 * layers. Left by a daemon that was killed while it removed something, or by a rollback that failed.
 */
import { readdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { messageOf } from '#proto/errors.ts'
import type { Finding } from '#storage/check/finding.ts'
import { ownerOfRootfs } from '../container/image-volumes.ts'
import { removeFiles } from '../container/remove-files.ts'
import { ContainerId, SandboxId } from '../ids.ts'
import type { Fate } from '../network/pod-network.ts'
import { runtimeCli } from '../oci/runtime-cli.ts'
import type { Parts } from '../parts.ts'
import { releaseNamespaces } from '../sandbox/namespaces.ts'

export type SweepNeeds = Pick<
  Parts,
  'containers' | 'handlers' | 'linux' | 'log' | 'network' | 'paths' | 'sandboxes' | 'storage' | 'swept'
>

/** What was nobody's and went, since the start. */
export interface Swept {
  directories: number
  rootfs: number
}

/** What a sweep would take, from memory and directory listings. */
export async function findUnowned({ containers, paths, sandboxes, storage }: SweepNeeds): Promise<Finding[]> {
  const hasContainer = (name: string): boolean => {
    const id = ContainerId.safeParse(name).data
    return id !== undefined && containers.get(id) !== undefined
  }
  const hasSandbox = (name: string): boolean => {
    const id = SandboxId.safeParse(name).data
    return id !== undefined && sandboxes.get(id) !== undefined
  }
  const stray = (path: string): Finding => ({
    kind: 'stray',
    id: basename(path),
    path,
    why: 'belongs to no record',
    remedy: 'sweep',
  })
  const unowned = async (dir: string, isOwned: (name: string) => boolean): Promise<Finding[]> =>
    (await readdir(dir)).filter((name) => !isOwned(name)).map((name) => stray(join(dir, name)))
  return [
    ...(await unowned(paths.containers, hasContainer)),
    ...(await unowned(paths.sandboxes, hasSandbox)),
    ...(await unowned(paths.ownVolumes, hasContainer)),
    ...storage.rootfs
      .list()
      .filter((id) => !hasContainer(ownerOfRootfs(id)))
      .map((id) => stray(join(paths.storage, 'rootfs', id))),
  ]
}

export async function sweepDirectories(needs: SweepNeeds): Promise<number> {
  const containers = await sweepDirectory(needs, needs.paths.containers, async (name) => {
    const id = ContainerId.safeParse(name).data
    if (id && needs.containers.get(id)) return false
    await deleteFromRuntimes(needs, name)
    return true
  })
  const sandboxes = await sweepDirectory(needs, needs.paths.sandboxes, async (name) => {
    const id = SandboxId.safeParse(name).data
    if (id && needs.sandboxes.get(id)) return false
    await deleteFromRuntimes(needs, name)
    if (id) releaseNamespaces(needs.linux, needs.paths.sandbox(id))
    return true
  })
  const volumes = await sweepDirectory(needs, needs.paths.ownVolumes, async (name) => {
    const id = ContainerId.safeParse(name).data
    return !id || !needs.containers.get(id)
  })
  needs.swept.directories += containers + sandboxes + volumes
  return containers + sandboxes + volumes
}

export async function resumeNetwork(needs: SweepNeeds): Promise<number> {
  await needs.network.resume((id) => fateOf(needs, id))
  return 0
}

export async function sweepRootfs(needs: SweepNeeds): Promise<number> {
  let swept = 0
  for (const id of await needs.storage.rootfs.list()) {
    const known = ContainerId.safeParse(ownerOfRootfs(id)).data
    if (known && needs.containers.get(known)) continue
    try {
      await needs.storage.rootfs.remove(id)
      needs.log.warn('Swept a root file system that no record owned', { id })
      swept++
      needs.swept.rootfs++
    } catch (cause) {
      needs.log.error('Cannot sweep a root file system', { container: known, why: messageOf(cause) })
    }
  }
  return swept
}

/** What an attachment on record is to the sandbox that it was made for. */
function fateOf(needs: SweepNeeds, id: string): Fate {
  const known = SandboxId.safeParse(id).data
  const status = known && needs.sandboxes.get(known)?.status
  if (!status || (status.state === 'stopped' && status.released)) return 'gone'
  return status.state === 'ready' ? 'attached' : 'being stopped'
}

/** `unowned` gives back what the entry holds and says whether it may go. */
async function sweepDirectory(
  needs: SweepNeeds,
  dir: string,
  unowned: (name: string) => Promise<boolean>,
): Promise<number> {
  let swept = 0
  for (const name of await readdir(dir)) {
    try {
      if (!(await unowned(name))) continue
      await removeFiles(needs, join(dir, name))
      needs.log.warn('Swept what no record owned', { path: join(dir, name) })
      swept++
    } catch (cause) {
      needs.log.error('Cannot sweep', { path: join(dir, name), why: messageOf(cause) })
    }
  }
  return swept
}

/** Which runtime made it is not known any more. */
async function deleteFromRuntimes(needs: SweepNeeds, id: string): Promise<void> {
  for (const handler of needs.handlers.list()) await runtimeCli(handler).delete(id, { force: true })
}
