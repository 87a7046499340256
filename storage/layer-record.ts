/** What is kept of a layer beside its tree. */
import * as z from 'zod'
import { parseDiffId } from './digest.ts'
import { LowerLinks } from './tar/unpack-messages.ts'

/** Paths in a record hold one character per byte of the name. */
export const LayerRecord = z.object({
  /**
   * Where the content is; a layer that is fetched lazily will have another word here. `with-links-below`: it needs a fix-up for its `lowerLinks`,
   * which an older program would not know of, so the word is one that it refuses.
   */
  content: z.enum(['local', 'with-links-below']),
  diffId: z.string().transform(parseDiffId),
  bytes: z.int().nonnegative(),
  inodes: z.int().nonnegative(),
  /** Attributes of the root directory, when the archive described it. */
  root: z.object({ mode: z.int(), uid: z.int(), gid: z.int() }).optional(),
  /** Nothing of the layers below shows. */
  opaqueRoot: z.boolean(),
  /** Directories that the archive did not describe. */
  implicit: z.array(z.string()),
  /** Names of files that lower layers have; see fix-up-store.ts. */
  lowerLinks: LowerLinks.default([]),
})

export type LayerRecord = z.infer<typeof LayerRecord>
