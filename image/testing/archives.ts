/** Image files as tools write them, and as nobody should. */

import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { type Header, pack } from 'tar-stream'
import { hexOf } from '#storage/digest.ts'
import type { BuiltImage } from './image-builder.ts'

export interface ArchiveEntry extends Pick<Header, 'name'> {
  readonly type?: NonNullable<Header['type']>
  readonly linkname?: string
  readonly devmajor?: number
  readonly devminor?: number
  readonly content?: Buffer | string
}

export const tarOf = async (entries: readonly ArchiveEntry[]): Promise<Buffer> => {
  const archive = pack()
  const pieces: Buffer[] = []
  archive.on('data', (piece) => pieces.push(Buffer.from(piece as Uint8Array)))
  for (const { content = '', ...header } of entries) {
    if (header.type === undefined || header.type === 'file') archive.entry({ mode: 0o644, ...header }, content)
    else archive.entry(header)
  }
  archive.finalize()
  await once(archive, 'end')
  return Buffer.concat(pieces)
}

export interface NamedImage {
  readonly image: BuiltImage
  readonly name?: string
}

/** The files of an OCI layout. */
export const layoutEntries = (images: readonly NamedImage[]): { name: string; content: Buffer }[] => {
  const blobs = new Map(images.flatMap(({ image }) => [...image.blobs, [image.digest, image.bytes] as const]))
  const manifests = images.map(({ image: { mediaType, digest, bytes }, name }) => ({
    mediaType,
    digest,
    size: bytes.length,
    ...(name !== undefined && { annotations: { 'org.opencontainers.image.ref.name': name } }),
  }))
  return [
    ...[...blobs].map(([digest, content]) => ({ name: `blobs/sha256/${hexOf(digest)}`, content })),
    { name: 'oci-layout', content: Buffer.from('{"imageLayoutVersion":"1.0.0"}') },
    { name: 'index.json', content: Buffer.from(JSON.stringify({ schemaVersion: 2, manifests })) },
  ]
}

export const writeLayout = async (dir: string, images: readonly NamedImage[]): Promise<void> => {
  for (const { name, content } of layoutEntries(images)) {
    await mkdir(dirname(join(dir, name)), { recursive: true })
    await writeFile(join(dir, name), content)
  }
}

/** What `docker save` wrote until version 25: a directory for each layer, and a link where two images share one. */
export const dockerEntries = (images: readonly NamedImage[]): ArchiveEntry[] => {
  const places = new Map<string, string>()
  const entries: ArchiveEntry[] = []
  const list = images.map(({ image, name }, number) => {
    const config = image.blobs.get(image.id) ?? Buffer.alloc(0)
    entries.push({ name: `${hexOf(image.id)}.json`, content: config })
    const layers = image.layers.map(({ bytes, compression, diffId }, index) => {
      const file = `${number}-${index}/layer.tar`
      const first = places.get(diffId)
      if (first !== undefined) entries.push({ name: file, type: 'symlink', linkname: `../${first}` })
      else entries.push({ name: file, content: compression === 'gzip' ? gunzipSync(bytes) : bytes })
      places.set(diffId, first ?? file)
      return file
    })
    return { Config: `${hexOf(image.id)}.json`, RepoTags: name === undefined ? null : [name], Layers: layers }
  })
  return [...entries, { name: 'manifest.json', content: JSON.stringify(list) }, { name: 'repositories', content: '{}' }]
}
