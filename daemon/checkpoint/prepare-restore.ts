/** What CreateContainer does otherwise when the image is the archive of a checkpoint: the base image, and the files of the container. */
import type { RunnableImage } from '#image/image-store.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { ContainerId } from '../ids.ts'
import type { OciSpec } from '../oci/spec/types.ts'
import type { Parts } from '../parts.ts'
import type { Paths } from '../paths.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import { podIdMap } from '../sandbox/sandbox.ts'
import { type CheckpointSource, openSource } from './checkpoint-source.ts'
import type { OpenArchive } from './open-archive.ts'
import { requireSameConfinement } from './same-confinement.ts'

export type PrepareNeeds = Pick<Parts, 'config' | 'images' | 'linux' | 'paths' | 'storage'>

export interface Checkpoint extends OpenArchive {
  readonly image: RunnableImage
}

const DIGEST = /@sha256:[0-9a-f]{64}$/
const ID = /^(?:sha256:)?[0-9a-f]{64}$/

/**
 * Unpacks the archive into the container's directory for it and finds, or pulls, the image beneath.
 * @throws RuntimeError as `openSource`; failed-precondition when it cannot be restored in this pod; what a pull throws
 */
export async function prepareRestore(
  needs: PrepareNeeds,
  sandbox: Sandbox,
  id: ContainerId,
  source: CheckpointSource,
  signal: AbortSignal,
): Promise<Checkpoint> {
  if (podIdMap(sandbox.record.config)) {
    throw new RuntimeError('failed-precondition', 'A checkpoint cannot be restored in a pod with a user namespace')
  }
  const archive = await openSource(needs, source, needs.paths.container(id).checkpoint, signal)
  return { ...archive, image: await baseImage(needs, archive, sandbox, signal) }
}

/** By digest only: a name may mean something else here, and pulling by name would change what it means. */
async function baseImage(
  { images }: PrepareNeeds,
  { config }: OpenArchive,
  sandbox: Sandbox,
  signal: AbortSignal,
): Promise<RunnableImage> {
  const { rootfsImage, rootfsImageRef: reference } = config
  const hasDigest = DIGEST.test(reference)
  let found = ID.test(rootfsImage) ? images.resolve(rootfsImage) : undefined
  if (hasDigest) found ??= images.resolve(reference)
  const namespace = sandbox.record.config.metadata?.namespace
  if (hasDigest && !found) {
    found = await images.pull({ reference, signal, ...(namespace !== undefined && { namespace }) })
  }
  if (found?.kind === 'image') {
    await images.authorize(found, { name: hasDigest ? reference : found.id, namespace })
    return found
  }
  throw new RuntimeError(
    'failed-precondition',
    `The checkpoint is based on an image that is not here and that it does not name by digest: ${JSON.stringify(config.rootfsImageName.slice(0, 300))}`,
  )
}

/** Puts the container's own files over its image; nobody uses the root file system yet. */
export async function restoreRootfs(
  { storage }: Pick<Parts, 'storage'>,
  id: ContainerId,
  { rootfs, deleted }: OpenArchive,
  signal?: AbortSignal,
): Promise<void> {
  if (rootfs !== undefined) await storage.rootfs.fill(id, rootfs, deleted, signal)
}

/**
 * The spec of a container that is restored, once it is sure to confine as the one that the checkpoint is of did.
 * @throws RuntimeError failed-precondition
 */
export function restoredSpec(paths: Pick<Paths, 'criuSettings'>, { spec }: OpenArchive, wanted: OciSpec): OciSpec {
  requireSameConfinement(spec, wanted)
  return { ...wanted, annotations: { ...wanted.annotations, 'org.criu.config': paths.criuSettings } }
}
