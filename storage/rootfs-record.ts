/** What the store keeps of a root file system: its record on disk, and what somebody asks for. */
import * as z from 'zod'
import type { IdMap } from '#linux/user-namespace.ts'
import { type DiffId, parseDiffId } from './digest.ts'
import type { Driver } from './snapshot/driver.ts'

const IdRange = z.object({ hostId: z.int(), size: z.int() })

export const RootfsRecord = z.object({
  id: z.string(),
  /** Bottom first. */
  layers: z.array(z.string().transform(parseDiffId)),
  readonly: z.boolean(),
  /** Of the mount: those that its driver chose when it was made, and those that were asked for. */
  options: z.array(z.string()).default([]),
  idMap: z.object({ uids: IdRange, gids: IdRange }).optional(),
  /** Where it is, or was last, mounted. */
  mountpoint: z.string(),
  driver: z.enum(['overlay', 'copy']).default('overlay'),
  /** Copies of layers that it stands on. */
  copies: z.array(z.string()).default([]),
  /** The boot in which it was last mounted, as /proc/sys/kernel/random/boot_id has it. */
  bootId: z.string().default(''),
  /** The project of the file system that counts what it takes. */
  project: z.int().optional(),
})

export type RootfsRecord = z.infer<typeof RootfsRecord>

export interface CreateRootfs {
  readonly id: string
  /** Bottom first. */
  readonly layers: readonly DiffId[]
  /** Absolute; created when missing. */
  readonly mountpoint: string
  /** Mounted without a writable layer, for volumes from images. A container's read-only root is the runtime's to make. */
  readonly readonly?: boolean
  /** Flags of the mount: nosuid, nodev, noexec; and `context=` with an SELinux label. */
  readonly options?: readonly string[]
  /** Ids of the layers' files are seen as these of the host: for a user namespace with this map. */
  readonly idMap?: IdMap | undefined
  /** What it is made of, for messages. */
  readonly image?: string
}

const ID = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/

export const isRootfsId = (id: string): boolean => ID.test(id)

export const newRecord = (
  { id, layers, mountpoint, readonly = false, options = [], idMap }: CreateRootfs,
  driver: Pick<Driver, 'name' | 'optionsOf'>,
  bootId: string,
): RootfsRecord => ({
  id,
  layers: [...layers],
  readonly,
  options: [...driver.optionsOf({ readonly }), ...options],
  mountpoint,
  driver: driver.name,
  copies: [],
  bootId,
  ...(idMap && { idMap }),
})
