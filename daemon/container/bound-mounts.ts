/**
 * Sources of mounts that the daemon binds itself before the OCI runtime sees them: those whose ids are mapped, which not
 * every runtime can do, those that hold further mounts (`nested-mounts.ts`), and those reached through links, so that nobody
 * can turn a link round in between.
 */
import { closeSync, fstatSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import type { IdMap, IdRange } from '#linux/user-namespace.ts'
import { messageOf } from '#proto/errors.ts'
import { type ContainerConfig, type IDMapping, type Mount, MountPropagation } from '#proto/generated/api.ts'
import type { MountSource } from '../oci/spec/host.ts'
import { absolutePath, impossible, invalid, isWithin, quoted } from '../oci/spec/refuse.ts'
import type { Parts } from '../parts.ts'
import type { ContainerPaths } from '../paths.ts'

type BindNeeds = Pick<Parts, 'linux' | 'paths'>

const O_PATH = 0x200000

/**
 * The sources again, some of them now places of the daemon's own.
 * @param holders indices of mounts that others will be mounted in, and so need places of their own
 * @throws RuntimeError invalid-argument for maps that make no sense, failed-precondition where the kernel cannot map
 */
export function bindSources(
  needs: BindNeeds,
  paths: ContainerPaths,
  { mounts }: ContainerConfig,
  sources: ReadonlyMap<number, MountSource>,
  { podMap, holders }: { readonly podMap: IdMap | undefined; readonly holders: ReadonlySet<number> },
): Map<number, MountSource> {
  const bound = new Map(sources)
  for (const [index, source] of sources) {
    const mount = mounts[index]
    if (!mount) continue
    const field = `mounts[${index}]`
    const idMap = mountMap(field, mount, podMap)
    const isBidirectional = mount.propagation === MountPropagation.PROPAGATION_BIDIRECTIONAL
    if (idMap && isBidirectional) throw impossible(`${field} has mapped ids, and so cannot be BIDIRECTIONAL`)
    // What the container mounts must reach the source itself.
    const isAsIs = !idMap && source.path === absolutePath(field, mount.hostPath) && !holders.has(index)
    if (isAsIs || isBidirectional) continue
    const target = join(paths.volumes, String(index))
    // Slaves: what is unmounted here stays mounted there.
    const isPrivate = holders.has(index) && mount.propagation === MountPropagation.PROPAGATION_PRIVATE
    const propagation = isPrivate ? 'private' : 'slave'
    bind(needs.linux, field, { source: source.path, target, idMap, propagation })
    dropCopiesOfOurs(needs, source.path, target)
    bound.set(index, { ...source, path: target, isMapped: idMap !== undefined })
  }
  return bound
}

/** The kubelet gives a volume the map of its pod. */
function mountMap(field: string, { uidMappings, gidMappings }: Mount, podMap: IdMap | undefined): IdMap | undefined {
  if (uidMappings.length === 0 && gidMappings.length === 0) return undefined
  if (!podMap) throw invalid(`${field} maps ids, but the pod has no user namespace of its own`)
  return { uids: range(`${field}.uidMappings`, uidMappings), gids: range(`${field}.gidMappings`, gidMappings) }
}

function range(field: string, [mapping, ...more]: readonly IDMapping[]): IdRange {
  if (!mapping || more.length > 0) throw invalid(`${field} has ${mapping ? more.length + 1 : 0} mappings instead of 1`)
  const { hostId, containerId, length } = mapping
  if (containerId !== 0 || length === 0 || hostId + length > 4_294_967_295) {
    throw invalid(`${field} does not map ids from 0 on to a range of the host`)
  }
  return { hostId, size: length }
}

interface Bind {
  readonly source: string
  readonly target: string
  readonly idMap: IdMap | undefined
  readonly propagation: 'private' | 'slave'
}

function bind(linux: Parts['linux'], field: string, { source, target, idMap, propagation }: Bind): void {
  const place = openResolved(linux, field, source)
  try {
    mkdirSync(join(target, '..'), { recursive: true, mode: 0o711 })
    if (fstatSync(place).isDirectory()) mkdirSync(target)
    else writeFileSync(target, '', { flag: 'wx' })
    linux.bindTree({ source: place, target, recursive: true, propagation, idMap })
  } catch (cause) {
    if (!idMap || !isErrno(cause, 'EINVAL', 'EPERM')) throw cause
    throw impossible(`${field}: the file system of ${quoted(source)} cannot map ids: ${messageOf(cause)}`, cause)
  } finally {
    closeSync(place)
  }
}

const directoriesOf = (paths: Parts['paths']): string[] => [paths.sandboxes, paths.containers, paths.storage]

/** Whether mounts of the daemon's own lie below. */
export const holdsOurs = (paths: Parts['paths'], source: string): boolean =>
  directoriesOf(paths).some((own) => isWithin(own, source))

/**
 * A source that holds the daemon's own directories comes with copies of its mounts. They would keep the root file systems
 * and networks of other pods, and their directories could not be removed, as long as this container is there.
 */
function dropCopiesOfOurs({ linux, paths }: BindNeeds, source: string, target: string): void {
  for (const own of directoriesOf(paths)) {
    if (!isWithin(own, source)) continue
    const copy = join(target, relative(source, own))
    for (const { mountpoint } of linux.readMountInfo().reverse()) {
      if (isWithin(mountpoint, copy) && mountpoint !== target) linux.unmount(mountpoint, { detach: true })
    }
  }
}

/** The path has its links resolved; if there is one now, somebody has put it there since. */
export function openResolved(linux: Parts['linux'], field: string, path: string): number {
  try {
    return linux.openBeneath('/', path.slice(1) || '.', O_PATH, 0, { noSymlinks: true })
  } catch (cause) {
    throw impossible(`Cannot open ${field}.host_path ${quoted(path)}: ${messageOf(cause)}`, cause)
  }
}

/** Idempotent. */
export function unbindSources(
  { linux }: Pick<Parts, 'linux'>,
  paths: ContainerPaths,
  { mounts }: ContainerConfig,
): void {
  for (const [index, { image }] of mounts.entries()) {
    if (!image) linux.unmount(join(paths.volumes, String(index)), { detach: true })
  }
}
