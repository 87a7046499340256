/**
 * Volumes whose files come from an image or an artifact (KEP-4639): a read-only overlay of its layers beside the rootfs, one
 * for each mount that names an image. The image is in use as long as the container is there.
 */
import { closeSync, fstatSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import * as z from 'zod'
import type { Images } from '#image/image-store.ts'
import { isErrno } from '#linux/errno.ts'
import type { IdMap } from '#linux/user-namespace.ts'
import { isKind, messageOf, RuntimeError } from '#proto/errors.ts'
import type { ContainerConfig } from '#proto/generated/api.ts'
import { parseDiffId } from '#storage/digest.ts'
import type { Rollback } from '#storage/rollback.ts'
import type { MountSource } from '../oci/spec/host.ts'
import { invalid, quoted } from '../oci/spec/refuse.ts'
import type { Parts } from '../parts.ts'
import type { ContainerPaths } from '../paths.ts'

/** Part of the container's record, so that every restart knows which image each volume is made of. */
export const ImageVolume = z.object({
  /** The index in `config.mounts`. */
  mount: z.int(),
  /** Also what the status reports as the digest in use: what PullImage answered. */
  imageId: z.string(),
  /** Bottom first. */
  layers: z.array(z.string()),
  /** Files of an artifact are read, never executed. */
  noexec: z.boolean().default(false),
})
export type ImageVolume = z.infer<typeof ImageVolume>

/** @throws RuntimeError invalid-argument for what can never be mounted, image-volume-mount-failed for an unknown image */
export function imageVolumes(images: Pick<Images, 'resolve'>, { mounts }: ContainerConfig): ImageVolume[] {
  return mounts.flatMap(({ image, imageSubPath }, index) => {
    if (!image) return []
    const field = `mounts[${index}]`
    checkSubPath(`${field}.image_sub_path`, imageSubPath)
    const found = images.resolve(image.image)
    if (!found) throw failed(`${field}.image ${quoted(image.image)} is not on this node`)
    const { id, diffIds, kind } = found
    return [{ mount: index, imageId: id, layers: [...diffIds], noexec: kind === 'artifact' }]
  })
}

/** Judged as text first, so that the answer does not depend on what the image holds. */
function checkSubPath(field: string, path: string): void {
  if (path === '') return
  if (path.includes('\0') || path.length > 4095) throw invalid(`${field} ${quoted(path)} is malformed`)
  if (path.startsWith('/')) throw failed(`${field} ${quoted(path)} is not relative to the image`)
  if (path.split('/').includes('..')) throw failed(`${field} ${quoted(path)} has ".." in it`)
}

const failed = (message: string, cause?: unknown): RuntimeError =>
  new RuntimeError('image-volume-mount-failed', `ImageVolumeMountFailed: ${message}`, { cause })

/** A record of the containers' rootfs store; `containerOf` is its inverse. */
const volumeId = (containerId: string, { mount }: ImageVolume): string => `${containerId}-volume-${mount}`

/** The container that a rootfs of the store belongs to: as its root, or as one of its volumes. */
export const ownerOfRootfs = (rootfsId: string): string => rootfsId.replace(/-volume-\d+$/, '')

type VolumeNeeds = Pick<Parts, 'linux' | 'storage'>

interface VolumesOf {
  readonly id: string
  readonly config: ContainerConfig
  readonly imageVolumes: readonly ImageVolume[]
}

/** Mounts them all. @returns what to show in the container, by the index in `config.mounts` */
export async function mountImageVolumes(
  needs: VolumeNeeds,
  paths: ContainerPaths,
  record: VolumesOf,
  rollback: Rollback,
  { idMap, options }: { readonly idMap: IdMap | undefined; readonly options: readonly string[] },
): Promise<Map<number, MountSource>> {
  const sources = new Map<number, MountSource>()
  for (const volume of record.imageVolumes) {
    const id = volumeId(record.id, volume)
    const mountpoint = join(paths.volumes, String(volume.mount))
    await makeVolume(needs, { id, mountpoint, volume, idMap, options })
    rollback.defer('image volume', () => needs.storage.rootfs.remove(id))
    const subPath = record.config.mounts[volume.mount]?.imageSubPath ?? ''
    sources.set(volume.mount, {
      path: within(needs, mountpoint, subPath),
      propagation: 'private',
      isMapped: idMap !== undefined,
      noexec: volume.noexec,
    })
  }
  return sources
}

interface NewVolume {
  readonly id: string
  readonly mountpoint: string
  readonly volume: ImageVolume
  readonly idMap: IdMap | undefined
  /** Of the mount. */
  readonly options: readonly string[]
}

async function makeVolume(needs: VolumeNeeds, { id, mountpoint, volume, idMap, options }: NewVolume): Promise<void> {
  try {
    const layers = volume.layers.map(parseDiffId)
    await needs.storage.rootfs.create({
      id,
      layers,
      mountpoint,
      readonly: true,
      options: ['nosuid', 'nodev', ...(volume.noexec ? ['noexec'] : []), ...options],
      idMap,
    })
  } catch (cause) {
    throw failed(`image ${quoted(volume.imageId)} cannot be mounted: ${messageOf(cause)}`, cause)
  }
}

const O_PATH = 0x200000

/** The host path of what a sub path leads to. Nobody can change a read-only mount, so the answer stays true. */
function within({ linux }: VolumeNeeds, mountpoint: string, subPath: string): string {
  if (subPath === '') return mountpoint
  let fd: number
  try {
    fd = linux.openBeneath(mountpoint, subPath, O_PATH)
  } catch (cause) {
    if (isErrno(cause, 'ENOENT', 'ENOTDIR')) throw failed(`the image has no ${quoted(subPath)}`, cause)
    throw failed(`${quoted(subPath)} does not lead to a place in the image`, cause)
  }
  try {
    const stats = fstatSync(fd)
    if (!stats.isDirectory() && !stats.isFile()) throw failed(`${quoted(subPath)} is neither a directory nor a file`)
    return readlinkSync(`/proc/self/fd/${fd}`)
  } finally {
    closeSync(fd)
  }
}

/** Idempotent. */
export async function unmountImageVolumes({ storage }: VolumeNeeds, record: VolumesOf): Promise<void> {
  for (const volume of record.imageVolumes) {
    try {
      await storage.rootfs.unmount(volumeId(record.id, volume))
    } catch (error) {
      if (!isKind(error, 'not-found')) throw error
    }
  }
}

/** Idempotent. */
export async function removeImageVolumes({ storage }: VolumeNeeds, record: VolumesOf): Promise<void> {
  for (const volume of record.imageVolumes) await storage.rootfs.remove(volumeId(record.id, volume))
}
