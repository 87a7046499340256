import { ImageSpec } from '#proto/generated/api.ts'

/** An image's name as the kubelet puts it into requests. */
export const imageSpec = (image: string): ImageSpec => ImageSpec.create({ image, userSpecifiedImage: image })
