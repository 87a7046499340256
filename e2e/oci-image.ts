/**
 * Makes small OCI images, pushes them to a registry and writes them as image layouts. The bytes are the same on every
 * run, so digests can be compared between registries.
 */

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import * as tar from 'tar-stream'
import { findBusybox } from './site.ts'

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
const INDEX = 'application/vnd.oci.image.index.v1+json'
const CONFIG = 'application/vnd.oci.image.config.v1+json'
const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip'

export interface Blob {
  mediaType: string
  digest: string
  bytes: Buffer
}

export interface Layer extends Blob {
  /** Digest of the uncompressed tar. */
  diffId: string
}

export interface OciImage {
  config: Blob
  layers: Layer[]
  manifest: Blob
  /** One entry per platform, of which only this machine's is there. */
  index: Blob
}

export interface ImageConfig {
  Cmd?: string[]
  Entrypoint?: string[]
  Env?: string[]
  User?: string
  WorkingDir?: string
  StopSignal?: string
  Labels?: Record<string, string>
  Volumes?: Record<string, object>
}

/** One entry of a layer; a directory ends with a slash. */
export type LayerEntry =
  | { path: string; mode?: number; uid?: number; gid?: number }
  | { path: string; content: string | Buffer; mode?: number; uid?: number; gid?: number }
  | { path: string; hardLinkTo: string; mode: number }
  | { path: string; symlinkTo: string }
  | { path: string; node: 'fifo' | 'character-device'; major?: number; minor?: number }

export const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

const blobOf = (mediaType: string, bytes: Buffer): Blob => ({ mediaType, bytes, digest: digestOf(bytes) })
const jsonBlob = (mediaType: string, value: unknown): Blob => blobOf(mediaType, Buffer.from(JSON.stringify(value)))
const descriptor = ({ mediaType, digest, bytes }: Blob) => ({ mediaType, digest, size: bytes.length })

/** A gzip layer of these entries. */
export async function makeLayer(entries: LayerEntry[]): Promise<Layer> {
  const pack = tar.pack()
  for (const entry of entries) addEntry(pack, entry)
  pack.finalize()
  const bytes = await buffer(pack)
  return { ...blobOf(LAYER, gzipSync(bytes, { level: 6 })), diffId: digestOf(bytes) }
}

function addEntry(pack: tar.Pack, entry: LayerEntry): void {
  const base = { name: entry.path, mtime: new Date(0), uid: 0, gid: 0 }
  if ('hardLinkTo' in entry) pack.entry({ ...base, type: 'link', linkname: entry.hardLinkTo, mode: entry.mode })
  else if ('node' in entry) {
    pack.entry({ ...base, type: entry.node, mode: 0o644, devmajor: entry.major ?? 0, devminor: entry.minor ?? 0 })
  } else if ('symlinkTo' in entry) pack.entry({ ...base, type: 'symlink', linkname: entry.symlinkTo })
  else {
    const owner = { uid: entry.uid ?? 0, gid: entry.gid ?? 0 }
    if ('content' in entry) pack.entry({ ...base, ...owner, type: 'file', mode: entry.mode ?? 0o644 }, entry.content)
    else pack.entry({ ...base, ...owner, type: 'directory', mode: entry.mode ?? 0o755 })
  }
}

/** An image of these layers, bottom first. `diffIds` is for images that lie. */
export function makeImage(layers: Layer[], config: ImageConfig = {}, diffIds = layers.map((l) => l.diffId)): OciImage {
  const architecture = process.arch === 'arm64' ? 'arm64' : 'amd64'
  const configBlob = jsonBlob(CONFIG, {
    created: '2026-01-01T00:00:00Z',
    architecture,
    os: 'linux',
    config,
    rootfs: { type: 'layers', diff_ids: diffIds },
    history: layers.map(() => ({ created: '2026-01-01T00:00:00Z', created_by: 'cricket e2e' })),
  })
  const manifest = jsonBlob(MANIFEST, {
    schemaVersion: 2,
    mediaType: MANIFEST,
    config: descriptor(configBlob),
    layers: layers.map(descriptor),
  })
  const index = jsonBlob(INDEX, {
    schemaVersion: 2,
    mediaType: INDEX,
    manifests: [{ ...descriptor(manifest), platform: { architecture, os: 'linux' } }],
  })
  return { config: configBlob, layers, manifest, index }
}

/**
 * The host's static busybox with all its applets, a handful of users, and a second layer with `/greeting`.
 * Applets are hard links: masking one of many symlinks would mask them all.
 */
export async function busyboxImage(config: ImageConfig = {}): Promise<OciImage> {
  const busybox = findBusybox()
  const applets = execFileSync(busybox, ['--list'], { encoding: 'utf8' }).trim().split('\n')
  const base = await makeLayer([
    { path: 'bin/' },
    { path: 'bin/busybox', content: await readFile(busybox), mode: 0o755 },
    ...applets
      .filter((name) => name !== 'busybox')
      .map((name) => ({ path: `bin/${name}`, hardLinkTo: 'bin/busybox', mode: 0o755 })),
    ...['dev/', 'etc/', 'proc/', 'sys/', 'home/', 'usr/', 'var/', 'run/'].map((path) => ({ path })),
    { path: 'root/', mode: 0o700 },
    { path: 'tmp/', mode: 0o1777 },
    { path: 'home/app/', uid: 1000, gid: 1000 },
    { path: 'etc/passwd', content: 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n' },
    { path: 'etc/group', content: 'root:x:0:\napp:x:1000:\nextra:x:2000:app\n' },
  ])
  const top = await makeLayer([{ path: 'greeting', content: 'hello from the second layer\n' }])
  return makeImage([base, top], {
    Cmd: ['/bin/sh'],
    Env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'FROM_IMAGE=yes'],
    WorkingDir: '/',
    ...config,
  })
}

/** Pushes to `<host>/<name>:<tag>`: the index, or the bare manifest with `as: 'manifest'`. Returns the digest of it. */
export async function pushImage(
  registryUrl: string,
  name: string,
  tag: string,
  image: OciImage,
  { as = 'index' }: { as?: 'index' | 'manifest' } = {},
): Promise<string> {
  const repository = `${registryUrl}/v2/${name}`
  for (const blob of [image.config, ...image.layers]) await pushBlob(repository, blob)
  await putManifest(repository, as === 'index' ? image.manifest.digest : tag, image.manifest)
  if (as === 'index') await putManifest(repository, tag, image.index)
  return as === 'index' ? image.index.digest : image.manifest.digest
}

export async function pushBlob(repository: string, blob: Blob): Promise<void> {
  const known = await fetch(`${repository}/blobs/${blob.digest}`, { method: 'HEAD' })
  if (known.ok) return
  const begun = await expectOk(await fetch(`${repository}/blobs/uploads/`, { method: 'POST' }), 'start of an upload')
  const location = new URL(begun.headers.get('location') ?? '', repository)
  location.searchParams.set('digest', blob.digest)
  const headers = { 'content-type': 'application/octet-stream' }
  await expectOk(await fetch(location, { method: 'PUT', headers, body: Uint8Array.from(blob.bytes) }), 'upload')
}

export async function putManifest(repository: string, name: string, blob: Blob): Promise<void> {
  const request = { method: 'PUT', headers: { 'content-type': blob.mediaType }, body: Uint8Array.from(blob.bytes) }
  await expectOk(await fetch(`${repository}/manifests/${name}`, request), 'manifest')
}

async function expectOk(response: Response, what: string): Promise<Response> {
  if (!response.ok) throw new Error(`the registry refused the ${what}: ${response.status} ${await response.text()}`)
  return response
}

/** Writes an OCI image layout directory; names become `org.opencontainers.image.ref.name`. */
export async function writeLayout(dir: string, images: Record<string, OciImage>): Promise<void> {
  const blobs = join(dir, 'blobs/sha256')
  await mkdir(blobs, { recursive: true })
  for (const { config, layers, manifest } of Object.values(images)) {
    for (const blob of [config, ...layers, manifest]) await writeFile(join(blobs, blob.digest.slice(7)), blob.bytes)
  }
  await writeFile(join(dir, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  const manifests = Object.entries(images).map(([name, { manifest }]) => ({
    ...descriptor(manifest),
    annotations: { 'org.opencontainers.image.ref.name': name },
  }))
  await writeFile(join(dir, 'index.json'), JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests }))
}
