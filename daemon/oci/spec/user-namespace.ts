/** The user namespace that a pod asks for. All containers of a pod have the same mapping. */
import type { IdMap, IdRange } from '#linux/user-namespace.ts'
import { type IDMapping, NamespaceMode, type UserNamespace } from '#proto/generated/api.ts'
import { invalid } from './refuse.ts'
import type { OciIdMapping } from './types.ts'

export interface UserMappings {
  readonly uids: readonly OciIdMapping[]
  readonly gids: readonly OciIdMapping[]
}

const MAX_UINT32 = 4_294_967_295

/**
 * The mappings of a pod with a user namespace of its own; undefined when it uses the node's.
 * @throws RuntimeError invalid-argument
 */
export const userMappings = (options: UserNamespace | undefined): UserMappings | undefined => {
  if (!options) return undefined
  switch (options.mode) {
    case NamespaceMode.NODE:
      if (options.uids.length || options.gids.length) throw invalid('userns_options has mappings but mode NODE')
      return undefined
    case NamespaceMode.POD:
      return { uids: [single('uids', options.uids)], gids: [single('gids', options.gids)] }
    default:
      throw invalid(`userns_options.mode ${options.mode} is not POD or NODE`)
  }
}

/** The kubelet gives each pod one range, and so must everybody: with more, ranges could overlap other pods'. */
const single = (field: string, mappings: readonly IDMapping[]): OciIdMapping => {
  const [mapping, ...more] = mappings
  if (!mapping || more.length > 0) throw invalid(`userns_options.${field} has ${mappings.length} mappings instead of 1`)
  const { hostId, containerId, length } = mapping
  if (containerId !== 0) throw invalid(`userns_options.${field} does not map container id 0`)
  if (hostId === 0) throw invalid(`userns_options.${field} maps host id 0`)
  if (length === 0) throw invalid(`userns_options.${field} has length 0`)
  if (hostId + length > MAX_UINT32) throw invalid(`userns_options.${field} reaches beyond the largest id`)
  return { containerID: containerId, hostID: hostId, size: length }
}

/** The same for system calls: container ids begin at 0. */
export const idMapOf = (mappings: UserMappings): IdMap => ({
  uids: rangeOf(mappings.uids),
  gids: rangeOf(mappings.gids),
})

const rangeOf = ([mapping]: readonly OciIdMapping[]): IdRange => ({
  hostId: mapping?.hostID ?? 0,
  size: mapping?.size ?? 0,
})

export const ociMappings = (mappings: readonly IDMapping[]): OciIdMapping[] =>
  mappings.map(({ hostId, containerId, length }) => ({ containerID: containerId, hostID: hostId, size: length }))

/** @throws RuntimeError invalid-argument when the process would run as somebody whom the pod's namespace does not know */
export const checkMapped = (what: string, id: number, [mapping]: readonly OciIdMapping[]): void => {
  if (mapping && id < mapping.size) return
  throw invalid(`${what} ${id} is not mapped in the user namespace of the pod`)
}
