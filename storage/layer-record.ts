/** What is kept of a layer beside its tree. */
import * as z from 'zod'
import { parseDiffId } from './digest.ts'

/** Paths in a record hold one character per byte of the name. */
export const LayerRecord = z.object({
  /** Where the content is; a layer that is fetched lazily will have another word here. */
  content: z.literal('local'),
  diffId: z.string().transform(parseDiffId),
  bytes: z.int().nonnegative(),
  inodes: z.int().nonnegative(),
  /** Attributes of the root directory, when the archive described it. */
  root: z.object({ mode: z.int(), uid: z.int(), gid: z.int() }).optional(),
  /** Nothing of the layers below shows. */
  opaqueRoot: z.boolean(),
  /** Directories that the archive did not describe. */
  implicit: z.array(z.string()),
})

export type LayerRecord = z.infer<typeof LayerRecord>
