/**
 * Manifests and blobs of one repository (OCI distribution specification, pull only). Hashes what it receives; headers
 * are only ever used to refuse.
 */

import { RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { algorithmOf, type Digest, digestOf, isDigest } from '#storage/digest.ts'
import type { BlobStream, DocumentTarget, FetchedDocument } from '../image-source.ts'
import { type Descriptor, MAX_CONFIG_BYTES, MAX_DOCUMENT_BYTES } from '../manifest.ts'
import { ACCEPT_DOCUMENTS, bareMediaType, OCI_INDEX } from '../media-types.ts'
import type { SignatureSource } from '../signatures/fetch-attachments.ts'
import { NotThatRange, PassingFailure } from './registry-error.ts'
import { type Retry, retrying } from './retry.ts'
import { Session, type SessionInput } from './session.ts'
import type { Timing } from './timing.ts'
import { readAll, refuseEncoded, type TransportResponse } from './transport.ts'

export interface RegistryClientInput extends SessionInput {
  readonly timing: Timing
  readonly log: Log
}

export class RegistryClient implements SignatureSource {
  readonly #input: RegistryClientInput
  readonly #session: Session

  constructor(input: RegistryClientInput) {
    this.#input = input
    this.#session = new Session(input)
  }

  document(target: DocumentTarget, signal: AbortSignal): Promise<FetchedDocument> {
    const name = 'tag' in target ? target.tag : target.digest
    const what = this.#what('manifest', name)
    const retry = this.#retry(signal)
    return retrying(retry, what, async () => {
      const response = await this.#session.get(`manifests/${name}`, { accept: ACCEPT_DOCUMENTS }, retry, what)
      refusePartial(response, what)
      const bytes = await this.#readSmall(response, MAX_DOCUMENT_BYTES, what)
      const digest = verifiedDigest(bytes, target, response.headers['docker-content-digest'], what)
      return { bytes, digest, contentType: response.headers['content-type'] }
    })
  }

  /** Hashed here; nobody has said which digest it has. Nothing from who answers with something else than an index. */
  referrers(digest: Digest, signal: AbortSignal): Promise<FetchedDocument | undefined> {
    const what = this.#what('referrers', digest)
    const retry = this.#retry(signal)
    return retrying(retry, what, async () => {
      const response = await this.#session.get(`referrers/${digest}`, { accept: OCI_INDEX }, retry, what)
      refusePartial(response, what)
      const contentType = response.headers['content-type']
      if (bareMediaType(contentType) !== OCI_INDEX) {
        response.discard()
        return undefined
      }
      const bytes = await this.#readSmall(response, MAX_DOCUMENT_BYTES, what)
      return { bytes, digest: digestOf(bytes), contentType }
    })
  }

  smallBlob(descriptor: Descriptor, signal: AbortSignal): Promise<Buffer> {
    const what = this.#what('blob', descriptor.digest)
    const retry = this.#retry(signal)
    return retrying(retry, what, async () => {
      const response = await this.#session.get(`blobs/${descriptor.digest}`, {}, retry, what)
      refusePartial(response, what)
      const bytes = await this.#readSmall(response, MAX_CONFIG_BYTES, what)
      if (bytes.length !== descriptor.size) throw wrongSize(what, bytes.length, descriptor.size)
      if (digestOf(bytes, algorithmOf(descriptor.digest)) !== descriptor.digest) throw wrongContent(what)
      return bytes
    })
  }

  async blob({ digest, size }: Descriptor, offset: number, signal: AbortSignal, end = size): Promise<BlobStream> {
    const what = this.#what('blob', digest)
    const isPart = offset > 0 || end < size
    const range: Record<string, string> = isPart ? { range: `bytes=${offset}-${end < size ? end - 1 : ''}` } : {}
    const response = await this.#session.get(`blobs/${digest}`, range, this.#retry(signal), what)
    refuseEncoded(response, what)
    if (response.status === 200) {
      refuseLength(response, size, what)
      return { offset: 0, bytes: response.body(), discard: response.discard }
    }
    if (!isPart || !isRange(response.headers['content-range'], { start: offset, end, size })) {
      response.discard()
      throw new NotThatRange(`Answer for ${what} is not the range that was asked for`)
    }
    const tag = strongTag(response.headers.etag)
    const version = tag !== undefined && { version: { server: this.#input.host.origin, tag } }
    return { offset, end, ...version, bytes: response.body(), discard: response.discard }
  }

  #readSmall(response: TransportResponse, maxBytes: number, what: string): Promise<Buffer> {
    return readAll(response, { maxBytes, withinMs: this.#input.timing.documentMs, what })
  }

  #what(kind: string, name: string): string {
    return `${kind} "${name}" of "${this.#input.host.name}/${this.#input.path}"`
  }

  #retry(signal: AbortSignal): Retry {
    return { timing: this.#input.timing, log: this.#input.log, signal }
  }
}

const verifiedDigest = (
  bytes: Buffer,
  target: DocumentTarget,
  header: string | string[] | undefined,
  what: string,
): Digest => {
  if ('digest' in target) {
    if (digestOf(bytes, algorithmOf(target.digest)) !== target.digest) throw wrongContent(what)
    return target.digest
  }
  // The header is no proof, but one that contradicts the content shows that something on the way is broken.
  if (isDigest(header) && digestOf(bytes, algorithmOf(header)) !== header) throw wrongContent(what)
  return digestOf(bytes)
}

const refusePartial = (response: TransportResponse, what: string): void => {
  if (response.status === 200) return
  response.discard()
  throw new PassingFailure(`Answer for ${what} is partial although the whole was asked for`)
}

const refuseLength = (response: TransportResponse, size: number, what: string): void => {
  const length = response.headers['content-length']
  if (length === undefined || Number(length) === size) return
  response.discard()
  throw wrongSize(what, Number(length), size)
}

/** "bytes 5-9/10": exactly what was asked for, of the size that the manifest says. */
const isRange = (header: string | undefined, wanted: { start: number; end: number; size: number }): boolean => {
  const found = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16}|\*)$/.exec(header ?? '')
  if (!found) return false
  const [, start, last, total] = found
  return (
    Number(start) === wanted.start &&
    Number(last) === wanted.end - 1 &&
    (total === '*' || Number(total) === wanted.size)
  )
}

/** Weak ones say nothing about bytes. */
const strongTag = (header: string | undefined): string | undefined => (header?.startsWith('"') ? header : undefined)

const wrongSize = (what: string, actual: number, size: number): RuntimeError =>
  new RuntimeError('failed-precondition', `Registry sends ${actual} bytes for ${what}, the manifest says ${size}`)

const wrongContent = (what: string): RuntimeError =>
  new RuntimeError('failed-precondition', `Content of ${what} does not have its digest`)
