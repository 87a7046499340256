/** Looks up the sources of requested mounts on this host: where their links lead, and how mounts spread from there. */
import { isErrno } from '#linux/errno.ts'
import { type MountInfo, readMountInfo } from '#linux/mount-info.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import { type Mount, MountPropagation } from '#proto/generated/api.ts'
import { existingPath } from './existing-path.ts'
import { type Followed, followLinks, foreignMounts, type SeenLinks } from './follow-links.ts'
import { resolveApart } from './resolve-apart.ts'
import type { MountSource } from './spec/host.ts'
import { absolutePath, impossible, isWithin, quoted } from './spec/refuse.ts'

/**
 * By the index in `requested`; image mounts are left out.
 * A source that does not exist is made a directory: hostPath volumes without a type rely on it, as with the other runtimes.
 * @param rejected sources that must exist: a directory made in their place would hide that they are missing
 * @throws RuntimeError invalid-argument, failed-precondition for a source that cannot be made or resolved, or
 *   deadline-exceeded for one whose file system does not answer
 */
export const resolveMountSources = async (
  requested: readonly Mount[],
  rejected: readonly string[] = [],
): Promise<Map<number, MountSource>> => {
  const sources = requested.flatMap(({ image, hostPath }, index): Source[] => {
    if (image) return []
    const field = `mounts[${index}].host_path`
    const path = absolutePath(field, hostPath)
    return [{ index, field, path, mayMake: !rejected.includes(path) }]
  })
  const paths = await resolveAll(sources)
  const table = requested.some(needsPropagation) ? readMountInfo() : []
  const propagation = (index: number, path: string) => {
    const mount = requested[index]
    return mount && needsPropagation(mount) ? propagationAt(path, table) : 'private'
  }
  return new Map([...paths].map(([index, path]) => [index, { path, propagation: propagation(index, path) }]))
}

interface Source {
  readonly index: number
  readonly field: string
  readonly path: string
  readonly mayMake: boolean
}

/** The mount table of a busy node is long: it is only read where it matters. */
const needsPropagation = ({ propagation }: Mount): boolean => propagation !== MountPropagation.PROPAGATION_PRIVATE

async function resolveAll(sources: readonly Source[]): Promise<Map<number, string>> {
  if (sources.length === 0) return new Map()
  const foreign = foreignMounts()
  const seen: SeenLinks = new Map()
  const followed = await Promise.all(
    sources.map(async (source) => ({ source, ...(await follow(source, foreign, seen)) })),
  )
  const found = followed.flatMap(({ source, is, path }) => (is === 'found' ? [[source.index, path] as const] : []))
  const beyond = followed.flatMap((each) => (each.is === 'beyond' ? [each] : []))
  return new Map([...found, ...(await followApart(beyond, foreign))])
}

const cannot = ({ field, path }: Source, cause: unknown): RuntimeError =>
  impossible(`Cannot resolve ${field} ${quoted(path)}: ${messageOf(cause)}`, cause)

async function follow(source: Source, foreign: ReadonlyMap<string, string>, seen: SeenLinks): Promise<Followed> {
  const { path, mayMake } = source
  const existing = async (): Promise<Followed> => ({ is: 'found', path: await existingPath(path, mayMake) })
  try {
    // On most nodes: one call of the system for the whole path.
    if (foreign.size === 0) return await existing()
    return await followLinks(path, foreign, seen).catch((error: unknown) => {
      if (isErrno(error, 'ENOENT')) return existing()
      throw error
    })
  } catch (cause) {
    throw cannot(source, cause)
  }
}

type Beyond = Extract<Followed, { is: 'beyond' }> & { readonly source: Source }

async function followApart(
  beyond: readonly Beyond[],
  foreign: ReadonlyMap<string, string>,
): Promise<[number, string][]> {
  if (beyond.length === 0) return []
  const answers = await resolveApart(beyond.map(({ path, source }) => ({ path, mayMake: source.mayMake })))
  return beyond.map(({ source, mountpoint }, at) => {
    const answer = answers[at]
    if (!answer) throw silent(source, mountpoint, foreign.get(mountpoint))
    if ('error' in answer) throw cannot(source, new Error(answer.error))
    return [source.index, answer.path]
  })
}

const silent = ({ field, path }: Source, mountpoint: string, fsType = ''): RuntimeError =>
  new RuntimeError(
    'deadline-exceeded',
    `Cannot resolve ${field} ${quoted(path)}: the file system on ${quoted(mountpoint)} (${fsType}) does not answer`,
  )

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
