/** Digests as fields of zod schemas: what comes from a registry or from disk becomes a Digest here or not at all. */

import * as z from 'zod'
import { type DiffId, type Digest, isDigest } from '#storage/digest.ts'
import { type ImageId, imageIdOf } from './image-id.ts'

const refusal = 'not a sha256 or sha512 digest'

export const digestField = z.custom<Digest>(isDigest, refusal)
export const diffIdField = z.custom<DiffId>(isDigest, refusal)
export const imageIdField = digestField.transform((digest): ImageId => imageIdOf(digest))
