/** Looks up the sources of requested mounts on this host: where their links lead, and how mounts spread from there. */
import { mkdir, realpath } from 'node:fs/promises'
import { isErrno } from '#linux/errno.ts'
import { type MountInfo, readMountInfo } from '#linux/mount-info.ts'
import { type Mount, MountPropagation } from '#proto/generated/api.ts'
import type { MountSource } from './spec/host.ts'
import { absolutePath, impossible, isWithin, quoted } from './spec/refuse.ts'

/**
 * By the index in `requested`; image mounts are left out.
 * A source that does not exist is made a directory: hostPath volumes without a type rely on it, as with the other runtimes.
 * @param rejected sources that must exist: a directory made in their place would hide that they are missing
 * @throws RuntimeError invalid-argument, or failed-precondition for a source that cannot be made or resolved
 */
export const resolveMountSources = async (
  requested: readonly Mount[],
  rejected: readonly string[] = [],
): Promise<Map<number, MountSource>> => {
  const table = requested.some(needsPropagation) ? readMountInfo() : []
  const entries = requested.map(async (mount, index): Promise<[number, MountSource][]> => {
    if (mount.image) return []
    const path = await resolved(`mounts[${index}].host_path`, mount.hostPath, rejected)
    return [[index, { path, propagation: needsPropagation(mount) ? propagationAt(path, table) : 'private' }]]
  })
  return new Map((await Promise.all(entries)).flat())
}

/** The mount table of a busy node is long: it is only read where it matters. */
const needsPropagation = ({ propagation }: Mount): boolean => propagation !== MountPropagation.PROPAGATION_PRIVATE

const resolved = async (field: string, hostPath: string, rejected: readonly string[]): Promise<string> => {
  const path = absolutePath(field, hostPath)
  try {
    return await existing(path, !rejected.includes(path))
  } catch (cause) {
    throw impossible(`Cannot resolve ${field} ${quoted(path)}`, cause)
  }
}

async function existing(path: string, mayMake: boolean): Promise<string> {
  try {
    return await realpath(path)
  } catch (error) {
    if (!mayMake || !isErrno(error, 'ENOENT')) throw error
    await mkdir(path, { recursive: true, mode: 0o755 })
    return realpath(path)
  }
}

/** Of the mount that the path lies on: the deepest one, and of several at one place the last, which covers the others. */
const propagationAt = (path: string, table: readonly MountInfo[]): MountSource['propagation'] => {
  let best: MountInfo | undefined
  for (const mount of table) {
    if (!isWithin(path, mount.mountpoint)) continue
    if (!best || mount.mountpoint.length >= best.mountpoint.length) best = mount
  }
  const isShared = best?.propagation.some((tag) => tag.startsWith('shared:')) ?? false
  const isSlave = best?.propagation.some((tag) => tag.startsWith('master:')) ?? false
  if (isShared) return isSlave ? 'shared-slave' : 'shared'
  return isSlave ? 'slave' : 'private'
}
