/** Owners of an image's files as the root of a user namespace is to see them, where the kernel cannot show them so. Pure. */
import type { IdMap, IdRange } from '#linux/user-namespace.ts'

/** The host's "nobody", which a user namespace shows for whoever it has no number for. */
const OVERFLOW_ID = 65_534

/** The host's number for an id of the image. */
export const shiftId = (id: number, range: IdRange | undefined): number => {
  if (range === undefined) return id
  return id < range.size ? range.hostId + id : OVERFLOW_ID
}

const REVISION_MASK = 0xff00_0000
const REVISION_2 = 0x0200_0000
const REVISION_3 = 0x0300_0000
const LENGTH_2 = 20
const LENGTH_3 = 24

/**
 * File capabilities (linux/capability.h, struct vfs_ns_cap_data): they count in user namespaces below that of the root whom they
 * name. Version 2 means the host's root, so it becomes version 3 with the root of this map. Anything else stays as it is.
 */
export const shiftCapabilities = (value: Buffer, map: IdMap | undefined): Buffer => {
  if (map === undefined || value.length < LENGTH_2) return value
  const magic = value.readUInt32LE(0)
  const revision = (magic & REVISION_MASK) >>> 0
  if (revision !== REVISION_2 && !(revision === REVISION_3 && value.length === LENGTH_3)) return value
  const root = revision === REVISION_3 ? value.readUInt32LE(LENGTH_2) : 0
  const shifted = Buffer.alloc(LENGTH_3)
  value.copy(shifted, 0, 0, LENGTH_2)
  shifted.writeUInt32LE(((magic & ~REVISION_MASK) | REVISION_3) >>> 0, 0)
  shifted.writeUInt32LE(shiftId(root, map.uids), LENGTH_2)
  return shifted
}
