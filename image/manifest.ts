/**
 * The two documents between a name and its layers: index (one entry per platform) and manifest (config and layers).
 * Both dialects, OCI and Docker schema 2. Bytes come in verified; everything they say is still hostile.
 */

import * as z from 'zod'
import { RuntimeError } from '#proto/errors.ts'
import { digestField } from './digest-field.ts'
import { bareMediaType, documentKind, isImageConfig, layerCompression, OCI_MANIFEST } from './media-types.ts'
import { parseStrictJson } from './strict-json.ts'

/** The specification asks clients to take at least 4 MiB; nobody else takes more. */
export const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
export const MAX_CONFIG_BYTES = 4 * 1024 * 1024
/** The kernel stacks at most 500 overlay directories; a few stay for our own fix-ups. */
export const MAX_LAYERS = 480
const MAX_INDEX_ENTRIES = 4096

const platformField = z.object({
  architecture: z.string().max(64),
  os: z.string().max(64),
  variant: z.string().max(64).optional(),
})

/** A pointer to a document or blob: what it says is a claim until the bytes are hashed. */
export const descriptorField = z.object({
  mediaType: z.string().max(255),
  digest: digestField,
  size: z.int().min(0),
})

/** How its key can be had, if it is encrypted, stands in its annotations. */
const layerField = descriptorField.extend({ annotations: z.record(z.string(), z.string()).nullish() })

const indexFields = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  manifests: z.array(descriptorField.extend({ platform: platformField.nullish() })),
})

const manifestFields = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  config: descriptorField,
  // Writers in Go say null for an empty list.
  layers: z.array(layerField).nullable(),
})

export type Platform = z.infer<typeof platformField>

export type Descriptor = z.infer<typeof descriptorField>
export type LayerDescriptor = z.infer<typeof layerField>
export type IndexEntry = z.infer<typeof indexFields>['manifests'][number]

export interface ImageIndex {
  readonly kind: 'index'
  readonly entries: readonly IndexEntry[]
}
/** What has the form of a manifest and no image configuration: files for somebody, see artifact.ts. */
export interface OtherManifest {
  readonly kind: 'other'
}
export interface ImageManifest {
  readonly kind: 'manifest'
  readonly config: Descriptor
  /** Bottom first. */
  readonly layers: readonly LayerDescriptor[]
}

/**
 * Reads an index or a manifest. The type must be said once and the same everywhere: by the one who sent it
 * (`contentType`), by the document and by whoever pointed to it (`expectedType`); otherwise the same bytes could be taken
 * as two different images.
 * @throws RuntimeError failed-precondition (not acceptable), resource-exhausted (too many entries or layers)
 */
export const parseDocument = (
  bytes: Uint8Array,
  { contentType, expectedType, what }: { contentType?: string; expectedType?: string; what: string },
): ImageIndex | ImageManifest | OtherManifest => {
  const json = parseStrictJson(bytes, what)
  refuseSchema1(json, contentType, what)
  const type = agreedType(json, contentType, expectedType, what)
  const kind = documentKind(type)
  refuseAmbiguous(json, kind, what)
  if (kind === 'index') return readIndex(json, what)
  const manifest = check(manifestFields, json, what)
  // Docker's form of a manifest is for images and for its own plugins.
  if (type === OCI_MANIFEST && !isImageConfig(manifest.config.mediaType)) return { kind: 'other' }
  return readManifest(manifest, what)
}

const SCHEMA_1 = /^application\/vnd\.docker\.distribution\.manifest\.v1\+(?:json|prettyjws)$/

/** Registries still send it for images that were pushed before 2016, asked for or not. */
const refuseSchema1 = (json: unknown, contentType: string | undefined, what: string): void => {
  const isOld = typeof json === 'object' && json !== null && 'schemaVersion' in json && json.schemaVersion === 1
  if (!isOld && !SCHEMA_1.test(bareMediaType(contentType))) return
  throw new RuntimeError(
    'failed-precondition',
    `${what} has Docker's old format "schema 1", which cannot be verified: push the image again with a current tool`,
  )
}

/** Types that say nothing: what simple file servers answer. */
const MEANINGLESS = new Set(['', 'application/json', 'application/octet-stream', 'text/plain'])

const typeOnly = z.object({ mediaType: z.string().optional() })

const agreedType = (
  json: unknown,
  contentType: string | undefined,
  expectedType: string | undefined,
  what: string,
): string => {
  const header = bareMediaType(contentType)
  const own = check(typeOnly, json, what).mediaType
  const said = [...(MEANINGLESS.has(header) ? [] : [header]), own, expectedType].filter((type) => type !== undefined)
  const type = said[0]
  if (type === undefined) throw new RuntimeError('failed-precondition', `${what} does not say its media type`)
  if (said.some((other) => other !== type)) {
    throw new RuntimeError('failed-precondition', `${what} has contradicting media types: ${quoteAll(said)}`)
  }
  if (documentKind(type) === undefined) {
    throw new RuntimeError('failed-precondition', `${what} has the media type ${quoteAll([type])}, which is no image`)
  }
  return type
}

const refuseAmbiguous = (json: unknown, kind: 'index' | 'manifest' | undefined, what: string): void => {
  const foreign = kind === 'index' ? ['layers', 'config', 'fsLayers'] : ['manifests', 'fsLayers']
  const found = foreign.find((name) => typeof json === 'object' && json !== null && Object.hasOwn(json, name))
  if (found !== undefined) {
    throw new RuntimeError('failed-precondition', `${what} is an ${kind} and must not have the field "${found}"`)
  }
}

const readIndex = (json: unknown, what: string): ImageIndex => {
  const { manifests } = check(indexFields, json, what)
  if (manifests.length > MAX_INDEX_ENTRIES) {
    throw new RuntimeError(
      'resource-exhausted',
      `${what} has ${manifests.length} entries, allowed are ${MAX_INDEX_ENTRIES}`,
    )
  }
  return { kind: 'index', entries: manifests }
}

const readManifest = ({ config, layers: listed }: z.infer<typeof manifestFields>, what: string): ImageManifest => {
  const layers = listed ?? []
  if (!isImageConfig(config.mediaType)) {
    throw new RuntimeError(
      'failed-precondition',
      `${what} has a config of type ${quoteAll([config.mediaType])}, so it is no image`,
    )
  }
  if (layers.length > MAX_LAYERS) {
    throw new RuntimeError('resource-exhausted', `${what} has ${layers.length} layers, allowed are ${MAX_LAYERS}`)
  }
  if (config.size > MAX_CONFIG_BYTES) {
    throw new RuntimeError(
      'resource-exhausted',
      `${what} has a config of ${config.size} bytes, allowed are ${MAX_CONFIG_BYTES}`,
    )
  }
  for (const [index, layer] of layers.entries()) {
    if (layerCompression(layer.mediaType) === undefined) {
      throw new RuntimeError(
        'failed-precondition',
        `${what} has layer ${index} of the unsupported type ${quoteAll([layer.mediaType])}`,
      )
    }
  }
  return { kind: 'manifest', config, layers }
}

/** Checks with a schema; the error names the field but never its hostile value. */
export const check = <T extends z.ZodType>(schema: T, json: unknown, what: string): z.output<T> => {
  const result = schema.safeParse(json)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const path = issue?.path.map(String).join('.').slice(0, 100) || 'document'
  throw new RuntimeError('failed-precondition', `${what} is invalid: ${path}: ${issue?.message.slice(0, 200)}`)
}

const quoteAll = (types: readonly string[]): string =>
  types.map((type) => JSON.stringify(type.slice(0, 100))).join(', ')
