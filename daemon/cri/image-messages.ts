/** Images as the CRI tells of them. */
import type { ImageRecord, RegistryAuth } from '#image/image-store.ts'
import { RuntimeError } from '#proto/errors.ts'
import { type AuthConfig, type FilesystemUsage, Image, type ImageSpec } from '#proto/generated/api.ts'
import { nowNs } from '../clock.ts'
import { verboseInfo } from './messages.ts'

/** @throws RuntimeError invalid-argument when the request names no image */
export function imageReference(image: ImageSpec | undefined): string {
  if (image?.image) return image.image
  throw new RuntimeError('invalid-argument', 'The request has no "image.image"')
}

export function imageMessage(record: ImageRecord, pinned: boolean): Image {
  const { id, repoTags, repoDigests, sizeBytes } = record
  return Image.fromPartial({
    id,
    repoTags: [...repoTags],
    repoDigests: [...repoDigests],
    size: sizeBytes,
    ...(record.kind === 'image' && userOf(record.config.user)),
    spec: { image: id },
    pinned,
  })
}

/** The image's user for the kubelet's runAsNonRoot check: a number in `uid`, a name in `username`, the group left out. */
function userOf(user: string): { uid?: { value: bigint }; username?: string } {
  const [name = ''] = user.split(':')
  if (name === '') return {}
  return /^\d+$/.test(name) ? { uid: { value: BigInt(name) } } : { username: name }
}

export const imageInfo = (record: ImageRecord): { [key: string]: string } =>
  verboseInfo({
    ...(record.kind === 'image' ? { imageSpec: { config: record.config } } : { artifactType: record.artifactType }),
    manifestDigest: record.manifestDigest,
    diffIds: record.diffIds,
    pulledAt: record.pulledAt,
  })

export const registryAuth = (auth: AuthConfig): RegistryAuth => ({ ...auth })

export const filesystemUsage = (usage: { mountpoint: string; bytes: number; inodes: number }): FilesystemUsage => ({
  timestamp: nowNs(),
  fsId: { mountpoint: usage.mountpoint },
  usedBytes: { value: BigInt(usage.bytes) },
  inodesUsed: { value: BigInt(usage.inodes) },
})
