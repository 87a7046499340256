/**
 * What `docker save` has always written: manifest.json lists images, each a configuration and layers by file name. It has no
 * manifests and no digests of layers; both are made here, and the diff ids of the configuration prove the layers.
 */

import { createHash } from 'node:crypto'
import * as z from 'zod'
import { RuntimeError } from '#proto/errors.ts'
import { COMPRESSION_MAGIC_LENGTH, detectCompression } from '#storage/compression.ts'
import { type Digest, digestOf, parseDigest } from '#storage/digest.ts'
import { parseImageConfig } from '../image-config.ts'
import type { BlobStream, DocumentTarget, FetchedDocument, ImageSource } from '../image-source.ts'
import { check, type Descriptor, MAX_CONFIG_BYTES, MAX_DOCUMENT_BYTES, MAX_LAYERS } from '../manifest.ts'
import { DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST } from '../media-types.ts'
import { parseStrictJson } from '../strict-json.ts'
import type { ArchiveFiles } from './archive-files.ts'

export const DOCKER_LIST_FILE = 'manifest.json'

const name = z.string().min(1).max(512)

const listFields = z
  .array(
    z.object({
      Config: name,
      RepoTags: z.array(z.string().max(1024)).max(1000).nullish(),
      Layers: z.array(name).max(MAX_LAYERS).nullable(),
    }),
  )
  .max(1000)

interface DockerImage {
  readonly source: ImageSource
  readonly digest: Digest
  /** As written: "busybox:latest". */
  readonly names: readonly string[]
}

/** Every image of the archive. @throws RuntimeError failed-precondition, resource-exhausted */
export const dockerImages = async (files: ArchiveFiles, signal: AbortSignal): Promise<DockerImage[]> => {
  const what = `File "${DOCKER_LIST_FILE}" of ${files.what}`
  const bytes = await files.read(DOCKER_LIST_FILE, MAX_DOCUMENT_BYTES)
  const images: DockerImage[] = []
  for (const { Config, RepoTags, Layers } of check(listFields, parseStrictJson(bytes, what), what)) {
    const { source, digest } = await readImage(files, Config, Layers ?? [], signal)
    images.push({ source, digest, names: RepoTags ?? [] })
  }
  return images
}

const readImage = async (
  files: ArchiveFiles,
  configFile: string,
  layerFiles: readonly string[],
  signal: AbortSignal,
): Promise<{ source: ImageSource; digest: Digest }> => {
  const config = await files.read(configFile, MAX_CONFIG_BYTES)
  const { diffIds } = parseImageConfig(config, `Config "${configFile}" of ${files.what}`)
  if (diffIds.length !== layerFiles.length) {
    throw new RuntimeError(
      'failed-precondition',
      `Image of ${files.what} has ${layerFiles.length} layers but its config lists ${diffIds.length} diff ids`,
    )
  }
  const layers: (Descriptor & { file: string })[] = []
  for (const [index, file] of layerFiles.entries()) {
    layers.push({ ...(await layerOf(files, file, diffIds[index], signal)), size: files.size(file), file })
  }
  const configDigest = digestOf(config)
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: DOCKER_MANIFEST,
      config: { mediaType: DOCKER_CONFIG, size: config.length, digest: configDigest },
      layers: layers.map(({ mediaType, size, digest }) => ({ mediaType, size, digest })),
    }),
  )
  const blobs = new Map(layers.map(({ digest, file }) => [digest, file]))
  return {
    source: new DockerSource(files, manifest, { digest: configDigest, bytes: config }, blobs),
    digest: digestOf(manifest),
  }
}

/** Docker writes layers as they are, so that their digest is the diff id; others compress them. */
const layerOf = async (
  files: ArchiveFiles,
  file: string,
  diffId: Digest | undefined,
  signal: AbortSignal,
): Promise<{ digest: Digest; mediaType: string }> => {
  const compression = detectCompression(await files.beginning(file, COMPRESSION_MAGIC_LENGTH))
  if (compression === 'none' && diffId !== undefined) return { digest: diffId, mediaType: DOCKER_LAYER }
  const hash = createHash('sha256')
  const { bytes } = files.stream(file, 0, signal)
  for await (const piece of bytes) hash.update(piece)
  return { digest: parseDigest(`sha256:${hash.digest('hex')}`), mediaType: `${DOCKER_LAYER}.${compression}` }
}

class DockerSource implements ImageSource {
  readonly #files: ArchiveFiles
  readonly #manifest: Buffer
  readonly #config: { readonly digest: Digest; readonly bytes: Buffer }
  readonly #blobs: ReadonlyMap<Digest, string>

  constructor(
    files: ArchiveFiles,
    manifest: Buffer,
    config: { readonly digest: Digest; readonly bytes: Buffer },
    blobs: ReadonlyMap<Digest, string>,
  ) {
    this.#files = files
    this.#manifest = manifest
    this.#config = config
    this.#blobs = blobs
  }

  async document(target: DocumentTarget): Promise<FetchedDocument> {
    const digest = digestOf(this.#manifest)
    if ('digest' in target && target.digest === digest) return { bytes: this.#manifest, digest, contentType: undefined }
    throw new RuntimeError('internal', `There is one manifest in an image of ${this.#files.what}`)
  }

  async smallBlob({ digest }: Descriptor): Promise<Buffer> {
    if (digest === this.#config.digest) return this.#config.bytes
    throw new RuntimeError('internal', `There is one config in an image of ${this.#files.what}`)
  }

  async blob({ digest }: Descriptor, offset: number, signal: AbortSignal, end?: number): Promise<BlobStream> {
    return this.#files.stream(this.#blobs.get(digest) ?? '', offset, signal, end)
  }
}
