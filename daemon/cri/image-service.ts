/** The RPC table of the image service: decode, one use case, encode. What is not here answers UNIMPLEMENTED by itself. */
import type { ImageServiceServer } from '#proto/generated/api.ts'
import type { Parts } from '../parts.ts'
import { filesystemUsage, imageInfo, imageMessage, imageReference, registryAuth } from './image-messages.ts'
import type { Unary } from './rpc.ts'

export const imageService = ({ images }: Parts, unary: Unary): Partial<ImageServiceServer> => ({
  pullImage: unary(async ({ image, auth }, signal) => {
    const reference = imageReference(image)
    const record = await images.pull({ reference, ...(auth && { auth: registryAuth(auth) }), signal })
    return { imageRef: record.id }
  }),
  // An absent image is no error (api.proto, ImageStatusResponse).
  imageStatus: unary(({ image, verbose }) => {
    const record = images.resolve(imageReference(image))
    return { image: record && imageMessage(record), info: record && verbose ? imageInfo(record) : {} }
  }),
  listImages: unary(({ filter }) => {
    const name = filter?.image?.image
    const wanted = name ? [images.resolve(name)] : images.list()
    return { images: wanted.flatMap((record) => (record ? [imageMessage(record)] : [])) }
  }),
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
})
