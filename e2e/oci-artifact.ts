/** Pushes OCI artifacts: files for somebody, with a config that says nothing. */

import { type Blob, digestOf, pushBlob, putManifest } from './oci-image.ts'

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
const EMPTY = 'application/vnd.oci.empty.v1+json'

export interface ArtifactFile {
  readonly title: string
  readonly content: string
}

/** Pushes to `<host>/<name>:<tag>`. @returns the digest of the manifest */
export async function pushArtifact(
  registryUrl: string,
  name: string,
  tag: string,
  files: readonly ArtifactFile[],
): Promise<string> {
  const repository = `${registryUrl}/v2/${name}`
  const config = blobOf(EMPTY, '{}')
  const layers = files.map(({ title, content }) => ({ title, blob: blobOf('application/octet-stream', content) }))
  for (const blob of [config, ...layers.map(({ blob }) => blob)]) await pushBlob(repository, blob)
  const manifest = blobOf(
    MANIFEST,
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MANIFEST,
      artifactType: 'application/vnd.example.model',
      config: descriptor(config),
      layers: layers.map(({ title, blob }) => ({
        ...descriptor(blob),
        annotations: { 'org.opencontainers.image.title': title },
      })),
    }),
  )
  await putManifest(repository, tag, manifest)
  return manifest.digest
}

function blobOf(mediaType: string, content: string): Blob {
  const bytes = Buffer.from(content)
  return { mediaType, bytes, digest: digestOf(bytes) }
}

const descriptor = ({ mediaType, digest, bytes }: Blob) => ({ mediaType, digest, size: bytes.length })
