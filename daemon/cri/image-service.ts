/** The RPC table of the image service: decode, one use case, encode. What is not here answers UNIMPLEMENTED by itself. */
import type { ImageRecord, Images } from '#image/image-store.ts'
import type { ImageFilter, ImageServiceServer } from '#proto/generated/api.ts'
import type { Parts } from '../parts.ts'
import { filesystemUsage, imageInfo, imageMessage, imageReference, registryAuth } from './image-messages.ts'
import type { Unary } from './rpc.ts'
import { inChunks, type Streaming } from './stream-rpc.ts'

export const imageService = ({ images }: Parts, unary: Unary, streaming: Streaming): Partial<ImageServiceServer> => {
  const message = (record: ImageRecord) => imageMessage(record, images.isPinned(record))
  return {
    pullImage: unary(async ({ image, auth, sandboxConfig }, signal) => {
      const reference = imageReference(image)
      const namespace = sandboxConfig?.metadata?.namespace
      const record = await images.pull({
        reference,
        ...(auth && { auth: registryAuth(auth) }),
        ...(namespace && { namespace }),
        signal,
      })
      return { imageRef: record.id }
    }),
    // An absent image is no error (api.proto, ImageStatusResponse).
    imageStatus: unary(({ image, verbose }) => {
      const record = images.resolve(imageReference(image))
      return { image: record && message(record), info: record && verbose ? imageInfo(record) : {} }
    }),
    listImages: unary(({ filter }) => ({ images: wanted(images, filter).map(message) })),
    streamImages: streaming(({ filter }) =>
      inChunks(wanted(images, filter), (some) => ({ images: some.map(message) })),
    ),
    removeImage: unary(async ({ image }) => {
      await images.remove(imageReference(image))
      return {}
    }),
    imageFsInfo: unary(() => {
      const { images: imageUsage, containers } = images.fsInfo()
      return {
        imageFilesystems: [filesystemUsage(imageUsage)],
        containerFilesystems: [filesystemUsage(containers)],
      }
    }),
  }
}

/** All images, or the one that the filter names. */
function wanted(images: Images, filter: ImageFilter | undefined): readonly ImageRecord[] {
  const name = filter?.image?.image
  if (!name) return images.list()
  const record = images.resolve(name)
  return record ? [record] : []
}
