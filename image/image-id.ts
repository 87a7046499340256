/**
 * The id of an image: the digest of its configuration document. Two manifests (another compression, another registry)
 * with the same configuration are the same image. PullImage returns this string and Image.id is this string.
 */

import type { Digest } from '#storage/digest.ts'

declare const imageIdBrand: unique symbol

export type ImageId = Digest & { readonly [imageIdBrand]: true }

/** The id of the image with this configuration. */
export const imageIdOf = (configDigest: Digest): ImageId => configDigest as ImageId
