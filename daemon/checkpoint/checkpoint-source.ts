/**
 * What a container is made from when the image of the request is a checkpoint: an archive, or an image of a registry in whose one layer the
 * files of an archive lie. What may be opened at all is decided here, and nowhere by what is inside.
 */
import { open, rm } from 'node:fs/promises'
import * as z from 'zod'
import type { RunnableImage } from '#image/image-store.ts'
import { isKind, RuntimeError } from '#proto/errors.ts'
import type { Parts } from '../parts.ts'
import { type OpenArchive, openArchive, readArchive } from './open-archive.ts'

type Needs = Pick<Parts, 'config' | 'images' | 'linux' | 'storage'>

export type CheckpointSource =
  | { readonly kind: 'archive'; readonly path: string }
  | { readonly kind: 'image'; readonly image: RunnableImage; readonly name: string }

const MAX_MANIFEST_BYTES = 4 * 1024 * 1024
const MAX_ENTRIES = 100_000
/** CRI-O's, and the one that checkpointctl writes. */
const ANNOTATIONS = ['io.kubernetes.cri-o.annotations.checkpoint.name', 'org.criu.checkpoint.container.name']

/** Undefined when the image is none, and always when the node restores nothing: then it is an image like others, and a path is no image. */
export async function checkpointSource(needs: Needs, name: string): Promise<CheckpointSource | undefined> {
  if (needs.config.checkpoint.mode !== 'restore') return undefined
  if (name.startsWith('/')) return { kind: 'archive', path: name }
  const image = needs.images.resolve(name)
  if (image?.kind !== 'image' || !(await isCheckpoint(needs, image))) return undefined
  return { kind: 'image', image, name }
}

const Manifest = z.object({ annotations: z.record(z.string(), z.string()).nullish() })

async function isCheckpoint({ storage }: Needs, { manifestDigest }: RunnableImage): Promise<boolean> {
  try {
    const bytes = await storage.blobs.read(manifestDigest, { maxBytes: MAX_MANIFEST_BYTES })
    const { annotations } = Manifest.parse(JSON.parse(bytes.toString()))
    return ANNOTATIONS.some((annotation) => annotations?.[annotation] !== undefined)
  } catch (error) {
    // The image has been checked when it was pulled; a manifest that is gone was none of a checkpoint's yet.
    if (isKind(error, 'not-found') || error instanceof z.ZodError) return false
    throw error
  }
}

/**
 * Unpacks it into a new directory; the caller removes that, after a failure too.
 * @throws RuntimeError permission-denied for what the node is not configured to trust, and as `openArchive`
 */
export function openSource(
  needs: Needs,
  source: CheckpointSource,
  dir: string,
  signal: AbortSignal,
): Promise<OpenArchive> {
  return source.kind === 'archive'
    ? openArchive(needs, source.path, dir, signal)
    : openImage(needs, source, dir, signal)
}

/** Its layer goes through an archive of ours, and so through all that other archives go through. */
async function openImage(
  needs: Needs,
  { image, name }: Extract<CheckpointSource, { kind: 'image' }>,
  dir: string,
  signal: AbortSignal,
): Promise<OpenArchive> {
  requireTrusted(needs, image, name)
  const [diffId, ...more] = image.diffIds
  const layer = diffId && needs.storage.layers.get(diffId)
  if (layer === undefined || more.length > 0)
    throw new RuntimeError('failed-precondition', `Image ${JSON.stringify(name)} is a checkpoint, but not of one layer`)
  const path = `${dir}.tar`
  try {
    await using file = await open(path, 'wx+', 0o600)
    const bytes = needs.config.checkpoint.maxMiB * 2 ** 20
    await needs.storage.pack(layer.path, file.fd, { bytes, entries: MAX_ENTRIES }, signal)
    return await readArchive(needs, file.fd, dir, signal)
  } finally {
    await rm(path, { force: true })
  }
}

/** By where it was pulled from, which nobody but the registry can have made up. */
function requireTrusted({ config }: Needs, { repoDigests }: RunnableImage, name: string): void {
  const { imageRepositories } = config.checkpoint
  const isTrusted = repoDigests.some((digest) =>
    imageRepositories.some((repository) => digest.startsWith(`${repository}@`) || digest.startsWith(`${repository}/`)),
  )
  if (isTrusted) return
  throw new RuntimeError(
    'permission-denied',
    `Image ${JSON.stringify(name)} is a checkpoint, and comes from none of "checkpoint.imageRepositories" (${imageRepositories.join(', ') || 'none'})`,
  )
}
