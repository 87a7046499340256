/**
 * OCI artifacts: manifests whose content is no file system of a container but files for somebody, a model or a policy.
 * Read only; what becomes of the blobs is decided by whoever mounts them.
 */

import * as z from 'zod'
import { RuntimeError } from '#proto/errors.ts'
import { check, type Descriptor, descriptorField, MAX_LAYERS } from './manifest.ts'
import { isImageConfig, OCI_MANIFEST } from './media-types.ts'
import { parseStrictJson } from './strict-json.ts'

export interface ArtifactBlob {
  readonly descriptor: Descriptor
  /** The file name that its maker gave it (`org.opencontainers.image.title`): hostile text, no path yet. */
  readonly title: string | undefined
}

export interface ArtifactManifest {
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
 * The artifact that these verified bytes describe, or undefined when they are the manifest of an image.
 * @throws RuntimeError failed-precondition (not acceptable), resource-exhausted (too many blobs)
 */
export const parseArtifact = (bytes: Uint8Array, what: string): ArtifactManifest | undefined => {
  const { artifactType, config, layers } = check(fields, parseStrictJson(bytes, what), what)
  if (artifactType === undefined && isImageConfig(config.mediaType)) return undefined
  const listed = layers ?? []
  if (listed.length > MAX_LAYERS) {
    throw new RuntimeError('resource-exhausted', `${what} has ${listed.length} blobs, allowed are ${MAX_LAYERS}`)
  }
  return {
    artifactType: artifactType ?? config.mediaType,
    config,
    blobs: listed.map(({ annotations, ...descriptor }) => ({ descriptor, title: annotations?.[TITLE] })),
  }
}
