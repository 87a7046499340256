/**
 * OCI artifacts: manifests whose content is no file system of a container but files for somebody, a model or a policy.
 * Each blob is one file, named by its maker.
 */

import * as z from 'zod'
import { isKind, RuntimeError } from '#proto/errors.ts'
import { type FilePath, parseFilePath } from '#storage/file-path.ts'
import { type FileTree, fileTree } from '#storage/file-tree.ts'
import { check, type Descriptor, descriptorField, MAX_LAYERS } from './manifest.ts'
import { isImageConfig, OCI_MANIFEST } from './media-types.ts'
import { parseStrictJson } from './strict-json.ts'

export interface ArtifactBlob {
  readonly descriptor: Descriptor
  /** The file name that its maker gave it (`org.opencontainers.image.title`): hostile text, no path yet. */
  readonly title: string | undefined
}

export interface ArtifactManifest {
  readonly kind: 'artifact'
  /** "application/vnd.example.model.v1": what the content is for; the config's type where the manifest does not say. */
  readonly artifactType: string
  readonly config: Descriptor
  readonly blobs: readonly ArtifactBlob[]
}

const TITLE = 'org.opencontainers.image.title'

const fields = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.literal(OCI_MANIFEST).optional(),
  artifactType: z.string().max(255).optional(),
  config: descriptorField,
  layers: z
    .array(descriptorField.extend({ annotations: z.record(z.string(), z.string().max(65_536)).nullish() }))
    .nullable(),
})

/**
 * The artifact that these verified bytes describe.
 * @throws RuntimeError failed-precondition (not acceptable), resource-exhausted (too many blobs)
 */
export const parseArtifact = (bytes: Uint8Array, what: string): ArtifactManifest => {
  const { artifactType, config, layers } = check(fields, parseStrictJson(bytes, what), what)
  // What can run stays an image, whatever type it has beside that.
  if (isImageConfig(config.mediaType)) throw new RuntimeError('failed-precondition', `${what} is an image, no artifact`)
  const listed = layers ?? []
  if (listed.length > MAX_LAYERS) {
    throw new RuntimeError('resource-exhausted', `${what} has ${listed.length} blobs, allowed are ${MAX_LAYERS}`)
  }
  return {
    kind: 'artifact',
    artifactType: artifactType || config.mediaType,
    config,
    blobs: listed.map(({ annotations, ...descriptor }) => ({ descriptor, title: annotations?.[TITLE] })),
  }
}

/** Stands where the format wants a blob and there is none. */
const NO_CONTENT = 'application/vnd.oci.empty.v1+json'

/**
 * The files that the artifact is: each blob as it is, archives too, under its title, or under its digest without one.
 * @throws RuntimeError failed-precondition for titles that lead elsewhere or contradict each other
 */
export const filesOf = ({ blobs }: ArtifactManifest, what: string): FileTree => {
  const files = blobs.flatMap(({ descriptor: { mediaType, digest }, title = '' }, index) => {
    if (title === '' && mediaType === NO_CONTENT) return []
    return [{ path: pathOf(title || digest.replace(':', '-'), `${what} blob ${index}`), blob: digest }]
  })
  return within(what, () => fileTree(files))
}

const pathOf = (name: string, what: string): FilePath => within(what, () => parseFilePath(name))

const within = <T>(what: string, use: () => T): T => {
  try {
    return use()
  } catch (error) {
    if (!isKind(error, 'failed-precondition')) throw error
    throw new RuntimeError('failed-precondition', `${what}: ${error.message}`, { cause: error })
  }
}
