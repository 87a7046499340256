/** Where an image comes from: a repository at a registry or an OCI layout directory. What both must offer to be pulled from. */

import type { Digest } from '#storage/digest.ts'
import type { Descriptor } from './manifest.ts'

export interface FetchedDocument {
  /** Verified against `digest`. */
  readonly bytes: Buffer
  readonly digest: Digest
  /** What the sender called it; not yet believed. */
  readonly contentType: string | undefined
}

/** What was asked for by name or by digest. */
export type DocumentTarget = { readonly tag: string } | { readonly digest: Digest }

export interface BlobStream {
  /** Where `bytes` begin in the blob: the offset that was asked for, or 0 when the sender cannot resume. */
  readonly offset: number
  /** Where they end, when that is not the blob's end. */
  readonly end?: number
  /** What the sender says tells this content from any other under the same name, and who says it. */
  readonly version?: { readonly server: string; readonly tag: string }
  /** To be read once. Each piece is the reader's until it asks for the next one; whoever keeps it copies it. */
  readonly bytes: AsyncIterable<Uint8Array>
  /** Gives up what has not been read; to be called in any case, once, and not while a piece is awaited. */
  discard(): void
  /**
   * The bytes did not have the digest: whoever gave them is not asked for this blob again. Returns whether somebody else
   * can be asked.
   */
  readonly blame?: () => boolean
}

export interface ImageSource {
  /** An index or manifest of at most 4 MiB, hashed here. */
  document(target: DocumentTarget, signal: AbortSignal): Promise<FetchedDocument>
  /** A small blob as a whole, size and digest verified. */
  smallBlob(descriptor: Descriptor, signal: AbortSignal): Promise<Buffer>
  /**
   * One try to read a blob from `offset` on, to before `end` when given; not verified. Throws PassingFailure when
   * another try can help, NotThatRange.
   */
  blob(descriptor: Descriptor, offset: number, signal: AbortSignal, end?: number): Promise<BlobStream>
}
