/**
 * An OCI image layout directory as a source. The directory is the operator's, its content came from somewhere: names are
 * made of checked digests only, links are not followed, everything is hashed.
 */

import { closeSync, constants, createReadStream } from 'node:fs'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import type { Linux } from '#linux/linux.ts'
import { RuntimeError } from '#proto/errors.ts'
import { algorithmOf, type Digest, digestOf, hexOf } from '#storage/digest.ts'
import type { BlobStream, DocumentTarget, FetchedDocument, ImageSource } from './image-source.ts'
import { type Descriptor, MAX_CONFIG_BYTES, MAX_DOCUMENT_BYTES } from './manifest.ts'

export class LayoutSource implements ImageSource {
  readonly #dir: string
  readonly #linux: Linux

  constructor(dir: string, linux: Linux) {
    this.#dir = dir
    this.#linux = linux
  }

  async document(target: DocumentTarget): Promise<FetchedDocument> {
    if ('tag' in target) throw new RuntimeError('invalid-argument', `Layout "${this.#dir}" is read by digest only`)
    const bytes = this.#readVerified(target.digest, MAX_DOCUMENT_BYTES)
    return { bytes, digest: target.digest, contentType: undefined }
  }

  async smallBlob({ digest, size }: Descriptor): Promise<Buffer> {
    const bytes = this.#readVerified(digest, MAX_CONFIG_BYTES)
    if (bytes.length !== size) throw this.#bad(digest, `has ${bytes.length} bytes, the manifest says ${size}`)
    return bytes
  }

  async blob({ digest }: Descriptor, offset: number, signal: AbortSignal, end?: number): Promise<BlobStream> {
    const fd = this.#open(blobPath(digest))
    // The stream closes the descriptor.
    const bytes = createReadStream('', { fd, start: offset, signal, ...(end !== undefined && { end: end - 1 }) })
    return { offset, bytes, discard: () => void bytes.destroy() }
  }

  /** A small file by its fixed name: "index.json". */
  readNamed(name: string, maxBytes: number): Buffer {
    const fd = this.#open(name)
    try {
      return this.#linux.readFdBounded(fd, maxBytes, join(this.#dir, name))
    } catch (error) {
      if (!isErrno(error, 'EFBIG')) throw error
      throw new RuntimeError('resource-exhausted', `File "${join(this.#dir, name)}" is larger than ${maxBytes} bytes`, {
        cause: error,
      })
    } finally {
      closeSync(fd)
    }
  }

  #readVerified(digest: Digest, maxBytes: number): Buffer {
    const bytes = this.readNamed(blobPath(digest), maxBytes)
    if (digestOf(bytes, algorithmOf(digest)) !== digest) throw this.#bad(digest, 'does not have its digest')
    return bytes
  }

  #open(path: string): number {
    try {
      return this.#linux.openBeneath(this.#dir, path, constants.O_RDONLY | constants.O_NONBLOCK, 0, {
        noSymlinks: true,
      })
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) throw error
      throw new RuntimeError('failed-precondition', `Layout "${this.#dir}" has no file "${path}"`, { cause: error })
    }
  }

  #bad(digest: Digest, why: string): RuntimeError {
    return new RuntimeError('failed-precondition', `Blob "${digest}" of layout "${this.#dir}" ${why}`)
  }
}

const blobPath = (digest: Digest): string => join('blobs', algorithmOf(digest), hexOf(digest))
