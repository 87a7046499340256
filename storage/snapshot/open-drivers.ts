/** Which drivers a host can use, found out once by trying: kernels, file systems and sandboxes differ in more than versions tell. */
import { randomBytes } from 'node:crypto'
import { mkdir, rm, unlink, writeFile } from 'node:fs/promises'
import { release } from 'node:os'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import type { Linux } from '#linux/linux.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { asDiskError } from '../disk-errors.ts'
import type { Layout } from '../layout.ts'
import type { WorkerPool } from '../tar/worker-pool.ts'
import { CopyDriver } from './copy-driver.ts'
import type { Driver, DriverName } from './driver.ts'
import { OverlayDriver, type OverlayOptions, writableOptions } from './overlay-driver.ts'
import type { TreeCopies } from './tree-copies.ts'

export interface SnapshotOptions {
  /** `auto`: overlay where it works, copy elsewhere. */
  readonly driver: DriverName | 'auto'
  readonly overlay: OverlayOptions
  /** Whether user namespaces get copies of the layers where the kernel cannot map owners. */
  readonly copyForUserNamespaces: boolean
}

export const DEFAULT_SNAPSHOT_OPTIONS: SnapshotOptions = {
  driver: 'auto',
  overlay: { metacopy: false, redirectDir: false, volatile: false },
  copyForUserNamespaces: false,
}

export interface Drivers {
  /** For new root file systems. */
  readonly chosen: Driver
  /** Those of earlier times stay with the driver that made them. */
  of(name: DriverName): Driver
}

export interface DriversParts {
  readonly layout: Layout
  readonly linux: Linux
  readonly log: Log
  readonly copies: TreeCopies
  readonly additional: readonly string[]
  readonly workers: WorkerPool
  readonly options: SnapshotOptions
}

/** @throws RuntimeError failed-precondition when the driver that is asked for does not work here */
export const openDrivers = async (parts: DriversParts): Promise<Drivers> => {
  const { layout, linux, log, copies, additional, workers, options } = parts
  const byName = {
    overlay: new OverlayDriver({
      layout,
      linux,
      copies,
      additional,
      options: options.overlay,
      idMaps: idMapsBy(parts),
    }),
    copy: new CopyDriver({ linux, copies, workers }),
  }
  const of = (name: DriverName): Driver => byName[name]
  if (options.driver === 'copy') return { chosen: byName.copy, of }
  const obstacle = await overlayObstacle(parts)
  if (obstacle === undefined) return { chosen: byName.overlay, of }
  if (options.driver === 'overlay')
    throw new RuntimeError('failed-precondition', `Overlayfs does not work at "${layout.containers}": ${obstacle}`)
  log.warn('Overlayfs does not work here: every container gets a whole copy of its image', { why: obstacle })
  return { chosen: byName.copy, of }
}

const idMapsBy = ({ layout, linux, options }: DriversParts): 'kernel' | 'copies' | 'none' => {
  if (overlaysMapIds() && linux.canMapIds(layout.root)) return 'kernel'
  return options.copyForUserNamespaces ? 'copies' : 'none'
}

/** Layers of an overlay may lie on id-mapped mounts since Linux 5.19. */
const overlaysMapIds = (): boolean => {
  const [major = 0, minor = 0] = release()
    .split('.')
    .map((part) => Number.parseInt(part, 10))
  return major > 5 || (major === 5 && minor >= 19)
}

/** What a kernel or file system answers that cannot do it; a full or broken disk says nothing about overlayfs. */
const CANNOT = ['EINVAL', 'ENODEV', 'ENOSYS', 'EOPNOTSUPP', 'EPERM', 'EACCES', 'ENOTTY'] as const

/** Why an overlay cannot be mounted and written to, with the options that it will have; undefined when it can. */
const overlayObstacle = async ({ layout, linux, options }: DriversParts): Promise<string | undefined> => {
  const directory = join(layout.containersTemp, `probe-${randomBytes(8).toString('hex')}`)
  const at = (name: string): string => join(directory, name)
  try {
    for (const name of ['.', 'lower', 'upper', 'work', 'target']) await mkdir(at(name), { mode: 0o700 })
    await writeFile(at('lower/file'), '')
    linux.mountOverlay({
      lower: [at('lower')],
      upper: at('upper'),
      work: at('work'),
      target: at('target'),
      options: writableOptions({ ...options.overlay, volatile: false }),
    })
    // Takes a whiteout, which not every file system can hold.
    await unlink(at('target/file'))
    return undefined
  } catch (error) {
    if (!isErrno(error, ...CANNOT)) throw asDiskError(error, `Cannot try overlayfs at "${layout.containers}"`)
    return messageOf(error)
  } finally {
    linux.unmount(at('target'), { detach: true })
    await rm(directory, { recursive: true, force: true })
  }
}
