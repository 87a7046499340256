/** Makes tiny images, valid or broken on purpose, as the bytes that a registry would hold. */

import { once } from 'node:events'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { pack } from 'tar-stream'
import type { Compression } from '#storage/compression.ts'
import { type DiffId, type Digest, digestOf, parseDiffId } from '#storage/digest.ts'
import { DOCKER_CONFIG, DOCKER_LIST, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST } from '../media-types.ts'

export interface BuiltLayer {
  readonly bytes: Buffer
  readonly digest: Digest
  readonly diffId: DiffId
  readonly compression: Compression
}

export interface BuiltDocument {
  readonly bytes: Buffer
  readonly mediaType: string
  readonly digest: Digest
}

export interface BuiltImage extends BuiltDocument {
  /** The image id. */
  readonly id: Digest
  readonly layers: readonly BuiltLayer[]
  /** Config and layers. */
  readonly blobs: ReadonlyMap<Digest, Buffer>
}

export interface BuiltIndex extends BuiltDocument {
  readonly images: readonly BuiltImage[]
}

const HOST_ARCHITECTURE = process.arch === 'x64' ? 'amd64' : process.arch

/** A layer with these files (names that end in "/" are directories). */
export const buildLayer = async (
  files: Readonly<Record<string, string | Buffer>>,
  compression: Compression = 'gzip',
): Promise<BuiltLayer> => {
  const archive = pack()
  for (const [name, content] of Object.entries(files)) {
    if (name.endsWith('/')) archive.entry({ name, type: 'directory', mode: 0o755, mtime: new Date(0) })
    else archive.entry({ name, mode: 0o644, mtime: new Date(0) }, content)
  }
  const pieces: Buffer[] = []
  archive.on('data', (piece) => pieces.push(Buffer.from(piece as Uint8Array)))
  archive.finalize()
  await once(archive, 'end')
  return layerOf(Buffer.concat(pieces), compression)
}

/** A layer out of bytes that may be no archive at all. */
export const layerOf = (tar: Buffer, compression: Compression = 'gzip'): BuiltLayer => {
  const packers: Record<Compression, (bytes: Buffer) => Buffer> = {
    gzip: (bytes) => gzipSync(bytes),
    zstd: (bytes) => zstdCompressSync(bytes),
    none: (bytes) => bytes,
  }
  const bytes = packers[compression](tar)
  return { bytes, digest: digestOf(bytes), diffId: parseDiffId(digestOf(tar)), compression }
}

export interface ImageRecipe {
  readonly layers?: readonly BuiltLayer[]
  readonly dialect?: 'oci' | 'docker'
  readonly architecture?: string
  readonly os?: string
  /** The execution part of the config. */
  readonly config?: Readonly<Record<string, unknown>>
  /** Replaces diff ids, to lie about them. */
  readonly diffIds?: readonly string[]
  /** Changes the manifest before it is written down. */
  readonly alter?: (manifest: Record<string, unknown>) => Record<string, unknown>
}

export const buildImage = (recipe: ImageRecipe = {}): BuiltImage => {
  const {
    layers = [],
    dialect = 'oci',
    architecture = HOST_ARCHITECTURE,
    os = 'linux',
    alter = (same) => same,
  } = recipe
  const config = json({
    architecture,
    os,
    created: '2024-01-01T00:00:00Z',
    config: recipe.config ?? { Env: ['PATH=/bin'], Cmd: ['/bin/sh'] },
    rootfs: { type: 'layers', diff_ids: recipe.diffIds ?? layers.map(({ diffId }) => diffId) },
  })
  const id = digestOf(config)
  const mediaType = dialect === 'oci' ? OCI_MANIFEST : DOCKER_MANIFEST
  const manifest = {
    schemaVersion: 2,
    mediaType,
    config: { mediaType: dialect === 'oci' ? OCI_CONFIG : DOCKER_CONFIG, digest: id, size: config.length },
    layers: layers.map((layer) => ({
      mediaType: layerType(dialect, layer.compression),
      digest: layer.digest,
      size: layer.bytes.length,
    })),
  }
  const bytes = json(alter(manifest))
  const blobs = new Map<Digest, Buffer>([[id, config], ...layers.map(({ digest, bytes }) => [digest, bytes] as const)])
  return { bytes, mediaType, digest: digestOf(bytes), id, layers, blobs }
}

export interface ArtifactFile {
  readonly content: string
  /** Its name; none, and it has none. */
  readonly title?: string
  readonly mediaType?: string
}

/** An artifact whose config is the empty one that all have. */
export const buildArtifact = (
  files: readonly ArtifactFile[],
  artifactType = 'application/vnd.test.model',
): BuiltImage => {
  const config = json({})
  const blobs = files.map(({ content }) => Buffer.from(content))
  const bytes = json({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    artifactType,
    config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf(config), size: config.length },
    layers: files.map(({ content, title, mediaType = 'application/octet-stream' }) => ({
      mediaType,
      digest: digestOf(content),
      size: Buffer.byteLength(content),
      ...(title !== undefined && { annotations: { 'org.opencontainers.image.title': title } }),
    })),
  })
  return {
    bytes,
    mediaType: OCI_MANIFEST,
    digest: digestOf(bytes),
    id: digestOf(bytes),
    layers: [],
    blobs: new Map(blobs.map((blob) => [digestOf(blob), blob])),
  }
}

export interface IndexItem {
  readonly image: BuiltImage
  readonly platform?: { readonly os: string; readonly architecture: string; readonly variant?: string }
}

export const buildIndex = (items: readonly IndexItem[], dialect: 'oci' | 'docker' = 'oci'): BuiltIndex => {
  const mediaType = dialect === 'oci' ? OCI_INDEX : DOCKER_LIST
  const bytes = json({
    schemaVersion: 2,
    mediaType,
    manifests: items.map(({ image, platform }) => ({
      mediaType: image.mediaType,
      digest: image.digest,
      size: image.bytes.length,
      ...(platform && { platform }),
    })),
  })
  return { bytes, mediaType, digest: digestOf(bytes), images: items.map(({ image }) => image) }
}

/** The platform of the machine that runs the tests. */
export const testHost = { os: 'linux', architecture: HOST_ARCHITECTURE }

const layerType = (dialect: 'oci' | 'docker', compression: Compression): string => {
  const base =
    dialect === 'oci' ? 'application/vnd.oci.image.layer.v1.tar' : 'application/vnd.docker.image.rootfs.diff.tar'
  return compression === 'none' ? base : `${base}${dialect === 'oci' ? '+' : '.'}${compression}`
}

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))
