/** What the daemon and an unpacking process say to each other: one JSON value per line. What the process says is not believed, only parsed. */
import * as z from 'zod'
import type { Compression } from '../compression.ts'
import type { DiffId, Digest } from '../digest.ts'
import { MAX_PATH_BYTES, type UnpackLimits } from './limits.ts'
import { type PathInLayer, ROOT } from './safe-path.ts'

export interface UnpackRequest {
  /** Where the blob is, and what its file is called there. */
  readonly place: 'whole' | 'partial'
  readonly name: string
  readonly digest: Digest
  /** Bytes of the whole blob. */
  readonly size: number
  /** How many of them are there. */
  readonly available: number
  /** As the manifest says; any when not given. */
  readonly compression?: Compression | undefined
  readonly diffId: DiffId
  /** Empty, below the directory for what is being made. */
  readonly directory: string
  readonly limits: UnpackLimits
}

export type ToUnpacker =
  | { readonly unpack: UnpackRequest }
  /** So many bytes of the blob are there now. */
  | { readonly available: number }
  | { readonly cancel: true }

/** Nothing that leads out of a tree, or that could be written in two ways. */
const isInLayer = (path: string): path is PathInLayer =>
  path.length <= MAX_PATH_BYTES && !/(?:^|\/)\.{0,2}(?:\/|$)|\0/.test(path)

const PathList = z.array(
  z.custom<PathInLayer>((path) => typeof path === 'string' && (path === ROOT || isInLayer(path))),
)

/** A name in a layer that is to be that of a file which a lower layer has. Paths hold one character per byte. */
export interface LowerLink {
  readonly path: PathInLayer
  /** As the archive says it; links on the way are those of the layers. */
  readonly target: PathInLayer
}

const NamedPath = z.custom<PathInLayer>((path) => typeof path === 'string' && isInLayer(path))

export const LowerLinks: z.ZodType<LowerLink[]> = z.array(z.object({ path: NamedPath, target: NamedPath }))

/** What is known of a layer once it is unpacked. Paths hold one character per byte. */
export const UnpackedLayer = z.object({
  bytes: z.int().nonnegative(),
  inodes: z.int().nonnegative(),
  root: z
    .object({ mode: z.int().min(0).max(0o1777), uid: z.int().nonnegative(), gid: z.int().nonnegative() })
    .optional(),
  opaqueRoot: z.boolean(),
  /** Directories that hide what lower layers have in them; not yet marked so on the disk. */
  opaque: PathList,
  /** Directories that only exist because something is in them. */
  implicit: PathList,
  /** Hard links to what is not in the archive; whiteouts are in their places. */
  lowerLinks: LowerLinks,
  /** Names of extended attributes that were left out. */
  droppedXattrs: z.array(z.string().max(300)).max(100),
})

export type UnpackedLayer = z.infer<typeof UnpackedLayer>

/** `blob`: the bytes do not have their digest, whatever else may be wrong. */
export const FromUnpacker = z.discriminatedUnion('is', [
  z.object({ is: z.literal('unpacked'), layer: UnpackedLayer }),
  z.object({ is: z.literal('wrong-blob'), message: z.string() }),
  // It goes on; what it wrote since it said so last may be brought to the disk.
  z.object({ is: z.literal('wrote-much') }),
  z.object({
    is: z.literal('failed'),
    kind: z.enum(['failed-precondition', 'resource-exhausted', 'cancelled', 'internal']).optional(),
    code: z.string().optional(),
    message: z.string(),
  }),
])

export type FromUnpacker = z.output<typeof FromUnpacker>

/** More than this no process has to say at once. */
export const MAX_REPLY_BYTES = 64 * 2 ** 20
