/** An OCI image layout as a source: names are made of checked digests only, everything is hashed. */

import { join } from 'node:path'
import { RuntimeError } from '#proto/errors.ts'
import { algorithmOf, type Digest, digestOf, hexOf } from '#storage/digest.ts'
import type { BlobStream, DocumentTarget, FetchedDocument, ImageSource } from './image-source.ts'
import type { LayoutFiles } from './layout-files.ts'
import { type Descriptor, MAX_CONFIG_BYTES, MAX_DOCUMENT_BYTES } from './manifest.ts'

export class LayoutSource implements ImageSource {
  readonly #files: LayoutFiles

  constructor(files: LayoutFiles) {
    this.#files = files
  }

  async document(target: DocumentTarget): Promise<FetchedDocument> {
    if ('tag' in target) throw new RuntimeError('invalid-argument', `The ${this.#files.what} is read by digest only`)
    const bytes = await this.#readVerified(target.digest, MAX_DOCUMENT_BYTES)
    return { bytes, digest: target.digest, contentType: undefined }
  }

  async smallBlob({ digest, size }: Descriptor): Promise<Buffer> {
    const bytes = await this.#readVerified(digest, MAX_CONFIG_BYTES)
    if (bytes.length !== size) throw this.#bad(digest, `has ${bytes.length} bytes, the manifest says ${size}`)
    return bytes
  }

  async blob({ digest }: Descriptor, offset: number, signal: AbortSignal, end?: number): Promise<BlobStream> {
    return this.#files.stream(blobPath(digest), offset, signal, end)
  }

  async #readVerified(digest: Digest, maxBytes: number): Promise<Buffer> {
    const bytes = await this.#files.read(blobPath(digest), maxBytes)
    if (digestOf(bytes, algorithmOf(digest)) !== digest) throw this.#bad(digest, 'does not have its digest')
    return bytes
  }

  #bad(digest: Digest, why: string): RuntimeError {
    return new RuntimeError('failed-precondition', `Blob "${digest}" of ${this.#files.what} ${why}`)
  }
}

const blobPath = (digest: Digest): string => join('blobs', algorithmOf(digest), hexOf(digest))
