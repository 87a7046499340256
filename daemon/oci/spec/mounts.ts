/**
 * All mounts of the container, parents before children: the default ones, the pod's /etc files, and those of the request,
 * which replace a default at the same place.
 */

import { RuntimeError } from '#proto/errors.ts'
import { type Mount, MountPropagation } from '#proto/generated/api.ts'
import { type DefaultMountInput, defaultMounts, etcMounts } from './default-mounts.ts'
import type { MountSource, SpecFeatures } from './host.ts'
import { absolutePath, impossible, invalid, isWithin, quoted } from './refuse.ts'
import type { OciMount } from './types.ts'
import { ociMappings } from './user-namespace.ts'

export interface MountInput extends DefaultMountInput {
  readonly requested: readonly Mount[]
  /** What the requested mounts' sources are on this host, by the index in `requested`. */
  readonly sources: ReadonlyMap<number, MountSource>
  readonly features: SpecFeatures
  /** Of the kernel. */
  readonly recursiveReadOnlyMounts: boolean
  /** Of the daemon: configured ones, generated files, volumes that the image declares. */
  readonly own: readonly OciMount[]
}

export interface MountSet {
  readonly mounts: readonly OciMount[]
  /** How mounts spread between node and container; set when a requested mount needs it. */
  readonly rootfsPropagation?: 'rslave' | 'rshared'
  readonly warnings: readonly string[]
}

interface RequestedMount {
  readonly destination: string
  readonly mount: Mount
  readonly oci: OciMount
  readonly isInside: boolean
}

const MAX_MOUNTS = 1000

/** @throws RuntimeError invalid-argument, failed-precondition, rro-unsupported, image-volume-mount-failed */
export const mounts = (input: MountInput): MountSet => {
  if (input.requested.length > MAX_MOUNTS) throw invalid(`mounts has ${input.requested.length} entries`)
  const warnings: string[] = []
  const requested = requestedMounts(input, warnings)
  const propagation = requested.map(({ mount }) => mount.propagation)
  const rootfsPropagation = propagation.includes(MountPropagation.PROPAGATION_BIDIRECTIONAL)
    ? 'rshared'
    : propagation.includes(MountPropagation.PROPAGATION_HOST_TO_CONTAINER)
      ? 'rslave'
      : undefined
  return {
    mounts: [
      ...defaultMounts(input).filter((mount) => !isReplaced(mount, requested)),
      ...etcMounts(input).filter((mount) => !isReplaced(mount, requested) && !isHidden(mount, requested, warnings)),
      ...input.own.filter((mount) => !isReplaced(mount, requested) && !isHidden(mount, requested, warnings)),
      ...requested.filter(({ isInside }) => !isInside).map(({ oci }) => oci),
    ].sort((a, b) => depth(a.destination) - depth(b.destination)),
    ...(rootfsPropagation && { rootfsPropagation }),
    // A request may repeat one place a thousand times.
    warnings: [...new Set(warnings)],
  }
}

const depth = (path: string): number => path.split('/').length

/**
 * A default gives way to a mount at its place. Below a bidirectional mount there can be no default at all: it would
 * appear on the node as well.
 */
const isReplaced = (mount: OciMount, requested: readonly RequestedMount[]): boolean =>
  requested.some(
    (other) =>
      other.destination === mount.destination ||
      (isWithin(mount.destination, other.destination) &&
        other.mount.propagation === MountPropagation.PROPAGATION_BIDIRECTIONAL),
  )

/** In a read-only volume over /etc the file to mount on cannot be made. */
const isHidden = (mount: OciMount, requested: readonly RequestedMount[], warnings: string[]): boolean => {
  const cover = requested.find((other) => other.mount.readonly && isWithin(mount.destination, other.destination))
  if (cover) warnings.push(`${mount.destination} of the pod is hidden by the read-only mount ${cover.destination}`)
  return cover !== undefined
}

const requestedMounts = (input: MountInput, warnings: string[]): RequestedMount[] => {
  const byDestination = new Map<string, RequestedMount>()
  for (const [index, mount] of input.requested.entries()) {
    const destination = checkedDestination(`mounts[${index}].container_path`, mount, input.privileged)
    // The last one wins, which is what is seen when both are mounted, as containerd does.
    if (byDestination.delete(destination)) warnings.push(`mounts names ${destination} twice; the last one is used`)
    const isInside = input.sources.get(index)?.isInside ?? false
    byDestination.set(destination, { destination, mount, isInside, oci: bind(index, destination, mount, input) })
  }
  return [...byDestination.values()]
}

const checkedDestination = (field: string, mount: Mount, privileged: boolean): string => {
  const destination = absolutePath(field, mount.containerPath)
  if (destination === '/') throw invalid(`${field} is the root directory`)
  // A mount over /proc would catch what the runtime writes there to confine the process (CVE-2019-16884).
  if (!privileged && isWithin(destination, '/proc')) throw invalid(`${field} ${quoted(destination)} lies in /proc`)
  return destination
}

const bind = (index: number, destination: string, mount: Mount, input: MountInput): OciMount => {
  const field = `mounts[${index}]`
  checkPropagation(field, mount, input.privileged)
  const known = input.sources.get(index)
  const source = mount.image ? imageSource(field, index, mount, input) : hostSource(field, index, mount, input)
  return {
    destination,
    type: 'bind',
    source,
    options: [
      'rbind',
      // Its source is private by itself then.
      known?.holdsSlaves ? 'rslave' : (PROPAGATION[mount.propagation] ?? 'rprivate'),
      ...accessOptions(field, mount, input),
      ...(known?.noexec ? ['noexec'] : []),
    ],
    ...(known?.isMapped ? {} : idMappings(field, mount, input.features)),
  }
}

const PROPAGATION: Readonly<Record<number, string>> = {
  [MountPropagation.PROPAGATION_PRIVATE]: 'rprivate',
  [MountPropagation.PROPAGATION_HOST_TO_CONTAINER]: 'rslave',
  [MountPropagation.PROPAGATION_BIDIRECTIONAL]: 'rshared',
}

const checkPropagation = (field: string, { propagation }: Mount, privileged: boolean): void => {
  if (!Object.hasOwn(PROPAGATION, propagation)) throw invalid(`${field}.propagation ${propagation} is unknown`)
  if (propagation === MountPropagation.PROPAGATION_BIDIRECTIONAL && !privileged) {
    throw invalid(`${field}.propagation is BIDIRECTIONAL, which only a privileged container may have`)
  }
}

const accessOptions = (field: string, mount: Mount, { features, recursiveReadOnlyMounts }: MountInput): string[] => {
  if (mount.image) return ['ro', 'nosuid', 'nodev']
  if (!mount.recursiveReadOnly) return [mount.readonly ? 'ro' : 'rw']
  if (!mount.readonly) throw invalid(`${field}.recursive_read_only is set on a mount that is not read-only`)
  if (mount.propagation !== MountPropagation.PROPAGATION_PRIVATE) {
    throw invalid(`${field}.recursive_read_only needs propagation PRIVATE`)
  }
  if (!(recursiveReadOnlyMounts && features.recursiveReadOnlyMounts)) {
    throw new RuntimeError('rro-unsupported', `RROUnsupported: ${field}: this node has no recursive read-only mounts`)
  }
  return ['rro']
}

/**
 * `image_sub_path` says nothing here: the kubelet fills it with the sub path of every mount of a pod that has an image volume, and
 * has followed it in `host_path` already.
 */
const hostSource = (field: string, index: number, mount: Mount, { sources }: MountInput): string => {
  const hostPath = absolutePath(`${field}.host_path`, mount.hostPath)
  const source = sources.get(index)
  const shared = source?.propagation === 'shared' || source?.propagation === 'shared-slave'
  if (mount.propagation === MountPropagation.PROPAGATION_BIDIRECTIONAL && !shared) {
    throw impossible(`${field}.host_path ${quoted(hostPath)} is not on a shared mount`)
  }
  if (
    mount.propagation === MountPropagation.PROPAGATION_HOST_TO_CONTAINER &&
    !shared &&
    source?.propagation !== 'slave'
  ) {
    throw impossible(`${field}.host_path ${quoted(hostPath)} is not on a shared or slave mount`)
  }
  return source?.path ?? hostPath
}

const imageSource = (field: string, index: number, mount: Mount, { sources }: MountInput): string => {
  if (mount.hostPath !== '') throw invalid(`${field} has both an image and a host_path`)
  if (!mount.readonly) throw invalid(`${field} mounts an image that is not read-only`)
  if (mount.propagation !== MountPropagation.PROPAGATION_PRIVATE)
    throw invalid(`${field} mounts an image not privately`)
  const source = sources.get(index)
  if (source) return source.path
  throw new RuntimeError('internal', `${field}.image ${quoted(mount.image?.image ?? '')} was not mounted`)
}

const idMappings = (field: string, { uidMappings, gidMappings }: Mount, { idmappedMounts }: SpecFeatures) => {
  if (uidMappings.length === 0 && gidMappings.length === 0) return {}
  if (uidMappings.length === 0 || gidMappings.length === 0)
    throw invalid(`${field} has uidMappings without gidMappings, or the other way round`)
  if (!idmappedMounts) throw impossible(`${field}: the OCI runtime does not support mounts with mapped ids`)
  return { uidMappings: ociMappings(uidMappings), gidMappings: ociMappings(gidMappings) }
}
