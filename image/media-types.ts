/**
 * Every media type that we accept, named once. Docker's and OCI's documents have the same shape, only their names differ.
 * Not here on purpose: Docker schema 1 (cannot be verified by digest alone).
 */

import type { Compression } from '#storage/compression.ts'

export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json'
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
export const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json'
export const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json'
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'
export const DOCKER_CONFIG = 'application/vnd.docker.container.image.v1+json'

const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar'
/** The content may not be redistributed, so it may carry `urls`. We ask the registry for it and never follow `urls`. */
const OCI_LAYER_RESTRICTED = 'application/vnd.oci.image.layer.nondistributable.v1.tar'
export const DOCKER_LAYER = 'application/vnd.docker.image.rootfs.diff.tar'
const DOCKER_LAYER_FOREIGN = 'application/vnd.docker.image.rootfs.foreign.diff.tar'

const documents: ReadonlyMap<string, 'index' | 'manifest'> = new Map([
  [OCI_INDEX, 'index'],
  [DOCKER_LIST, 'index'],
  [OCI_MANIFEST, 'manifest'],
  [DOCKER_MANIFEST, 'manifest'],
])

const layers: ReadonlyMap<string, Compression> = new Map<string, Compression>([
  ...[OCI_LAYER, OCI_LAYER_RESTRICTED].flatMap((base): [string, Compression][] => [
    [base, 'none'],
    [`${base}+gzip`, 'gzip'],
    [`${base}+zstd`, 'zstd'],
  ]),
  ...[DOCKER_LAYER, DOCKER_LAYER_FOREIGN].flatMap((base): [string, Compression][] => [
    [base, 'none'],
    [`${base}.gzip`, 'gzip'],
    [`${base}.zstd`, 'zstd'],
  ]),
])

/** What to send as Accept when asking for a manifest. */
export const ACCEPT_DOCUMENTS = [...documents.keys()].join(', ')

/** Whether this type names an index, a manifest, or nothing that we take. */
export const documentKind = (mediaType: string): 'index' | 'manifest' | undefined => documents.get(mediaType)

/** How a layer of this type is compressed, within its encryption if it has one; undefined for a type that is no layer of ours. */
export const layerCompression = (mediaType: string): Compression | undefined => layers.get(plainType(mediaType))

const ENCRYPTED = '+encrypted'

/** By ocicrypt. */
export const isEncrypted = (mediaType: string): boolean => mediaType.endsWith(ENCRYPTED)

/** What a layer of this type is once it has been decrypted. */
export const plainType = (mediaType: string): string =>
  isEncrypted(mediaType) ? mediaType.slice(0, -ENCRYPTED.length) : mediaType

export const isImageConfig = (mediaType: string): boolean => mediaType === OCI_CONFIG || mediaType === DOCKER_CONFIG

/** The type without parameters, lower case: "Application/JSON; charset=utf-8" → "application/json". */
export const bareMediaType = (header: string | undefined): string =>
  (header ?? '').split(';', 1).join('').trim().toLowerCase()
