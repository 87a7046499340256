/**
 * What is kept of an image: one small JSON document per image id. Written by us, but disks lie and people edit, so it is
 * checked again when it is read.
 */

import * as z from 'zod'
import { diffIdField, digestField, imageIdField } from './digest-field.ts'
import { imageConfigField } from './image-config.ts'

const commonFields = z.object({
  /** Of the config; of an artifact the digest of its manifest. */
  id: imageIdField,
  /** Canonical: "docker.io/library/busybox:latest". Empty once the last tag has moved to another image. */
  repoTags: z.array(z.string()),
  /** "docker.io/library/busybox@sha256:…", of the index that was asked for and of this host's manifest. */
  repoDigests: z.array(z.string()),
  /** Compressed layers and config, as registries and other runtimes count; never 0. */
  sizeBytes: z
    .string()
    .regex(/^[1-9]\d{0,18}$/)
    .transform((digits) => BigInt(digits)),
  /** Bottom first; of an artifact the one tree of its files. */
  diffIds: z.array(diffIdField),
  /** The compressed blobs that the layers came from, bottom first; they are not kept after unpacking. Those of an artifact are kept. */
  layerBlobs: z.array(digestField),
  manifestDigest: digestField,
  /** Never offered for garbage collection to the kubelet (preloaded images). */
  pinned: z.boolean(),
  /** RFC 3339, UTC. */
  pulledAt: z.iso.datetime(),
})

const recordField = z.union([
  commonFields.extend({
    kind: z.literal('artifact'),
    /** "application/vnd.example.model.v1" */
    artifactType: z.string(),
  }),
  commonFields.extend({
    // Records of before there were artifacts do not say it.
    kind: z.literal('image').default('image'),
    config: imageConfigField,
  }),
])

/** Bumped when an older reader would misunderstand. */
const LAYOUT = 1

/** How an image record lies on disk, within the checksum that storage/record.ts puts around it. */
export const storedRecordField = z.object({
  layout: z.literal(LAYOUT),
  /** Grows with every write of any record: of two records that both have a tag, the later one is right. */
  revision: z.int().min(1),
  image: recordField,
})

type AnyRecord = z.output<typeof recordField>

/** What containers are made of. */
export type RunnableImage = Readonly<Extract<AnyRecord, { kind: 'image' }>>
/** What only volumes are made of. */
export type Artifact = Readonly<Extract<AnyRecord, { kind: 'artifact' }>>
/** Either: both are pulled, listed, mounted and removed alike. */
export type ImageRecord = RunnableImage | Artifact

export interface StoredRecord {
  readonly revision: number
  readonly image: ImageRecord
}

/** The form that `storedRecordField` reads. */
export const toStored = ({ revision, image }: StoredRecord): object => ({
  layout: LAYOUT,
  revision,
  image: { ...image, sizeBytes: image.sizeBytes.toString() },
})
