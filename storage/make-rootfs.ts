/** The two steps by which a root file system comes to be seen: its directory, then the mount. Each is undone when a later one fails. */
import { randomBytes } from 'node:crypto'
import { mkdir, rename, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Linux } from '#linux/linux.ts'
import { type Layout, recordIn, rootfsIn } from './layout.ts'
import { writeRecord } from './record.ts'
import type { Rollback } from './rollback.ts'
import type { RootfsRecord } from './rootfs-record.ts'
import type { Drivers } from './snapshot/open-drivers.ts'
import type { Projects } from './snapshot/projects.ts'
import type { Snapshot } from './snapshot/snapshot.ts'
import { trustVolatile } from './snapshot/volatile-mark.ts'
import type { Trash } from './trash.ts'
import type { Usage } from './tree/measure-tree.ts'

interface MakeNeeds {
  readonly layout: Layout
  readonly linux: Linux
  readonly drivers: Drivers
  readonly projects?: Projects | undefined
  /** Of the containers' file system. */
  readonly trash: Trash
}

/** Makes the directory with its record, in a project of its own where there are such. */
export const makeRootfs = async (
  { drivers, layout, projects, trash }: MakeNeeds,
  record: RootfsRecord,
  snapshot: Snapshot,
  rollback: Rollback,
): Promise<{ usage: Usage; made: RootfsRecord }> => {
  let place = join(layout.containersTemp, `rootfs-${randomBytes(8).toString('hex')}`)
  await mkdir(place, { mode: 0o700 })
  rollback.defer('rootfs directory', () => trash.take(place))
  const project = record.readonly ? undefined : projects?.assign(place)
  const usage = await drivers.of(record.driver).make(place, snapshot)
  const made = project === undefined ? record : { ...record, project }
  await writeRecord(recordIn(place), made, { durable: false })
  if (project !== undefined) projects?.limit(project)
  await rename(place, rootfsIn(layout, record.id))
  place = rootfsIn(layout, record.id)
  return { usage, made }
}

/** Throws failed-precondition for what a crash may have torn; see volatile-mark.ts. */
export const mountRootfs = async (
  { drivers, layout, linux }: MakeNeeds,
  { id, driver, mountpoint, bootId }: RootfsRecord,
  snapshot: Snapshot,
  rollback: Rollback,
): Promise<void> => {
  const directory = rootfsIn(layout, id)
  await trustVolatile(directory, { since: bootId, now: linux.bootId() })
  const created = await mkdir(mountpoint, { recursive: true, mode: 0o700 })
  if (created !== undefined) rollback.defer('mountpoint', () => rmdir(mountpoint))
  await drivers.of(driver).mount({ directory, mountpoint }, snapshot)
  rollback.defer('mount', () => linux.unmount(mountpoint, { detach: true }))
}
