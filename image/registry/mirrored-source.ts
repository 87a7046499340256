/**
 * Several servers as one source: asks them in order until one gives what is wanted. Content by digest can come from
 * any of them, since the digest decides; a blob that one of them broke off is continued at the next.
 */

import { isKind, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { Digest } from '#storage/digest.ts'
import type { BlobStream, DocumentTarget, FetchedDocument } from '../image-source.ts'
import type { Descriptor } from '../manifest.ts'
import type { Endpoint } from '../registries/route.ts'
import type { SignatureSource } from '../signatures/fetch-attachments.ts'
import type { Reachability } from './reachability.ts'
import { PassingFailure, speaksNoTls } from './registry-error.ts'

export interface Server {
  readonly endpoint: Endpoint
  readonly source: SignatureSource
}

export class MirroredSource implements SignatureSource {
  readonly #servers: readonly Server[]
  readonly #reachability: Reachability
  readonly #log: Log
  /** Could not give something in this pull: asked after the others from then on. */
  readonly #stumbled = new Set<Server>()
  /** Turned out to speak no TLS: only then its plain twin may be asked. */
  readonly #withoutTls = new Set<string>()
  /** Gave wrong bytes for these digests. */
  readonly #liars = new Map<Digest, Set<Server>>()

  /** @param servers in the order of the configuration, not empty */
  constructor(servers: readonly Server[], reachability: Reachability, log: Log) {
    this.#servers = servers
    this.#reachability = reachability
    this.#log = log
  }

  document(target: DocumentTarget, signal: AbortSignal): Promise<FetchedDocument> {
    const able =
      'tag' in target ? this.#servers.filter(({ endpoint }) => endpoint.resolvesTags) : this.#byDigest(target.digest)
    return this.#ask(able, signal, ({ source }) => source.document(target, signal))
  }

  /** What refers to a digest is a question like that for a tag: the answer is nobody's digest. */
  referrers(digest: Digest, signal: AbortSignal): Promise<FetchedDocument | undefined> {
    const able = this.#servers.filter(({ endpoint }) => endpoint.resolvesTags)
    return this.#ask(able, signal, ({ source }) => source.referrers(digest, signal))
  }

  smallBlob(descriptor: Descriptor, signal: AbortSignal): Promise<Buffer> {
    return this.#ask(this.#byDigest(descriptor.digest), signal, ({ source }) => source.smallBlob(descriptor, signal))
  }

  blob(descriptor: Descriptor, offset: number, signal: AbortSignal, end?: number): Promise<BlobStream> {
    return this.#ask(this.#byDigest(descriptor.digest), signal, async (server) => {
      const stream = await server.source.blob(descriptor, offset, signal, end)
      return {
        ...stream,
        bytes: this.#watched(server, stream, stream.end ?? descriptor.size),
        blame: () => this.#blame(server, descriptor.digest),
      }
    })
  }

  /** In their order, but who stumbled last, and who lied about this digest not at all. */
  #byDigest(digest: Digest): Server[] {
    const liars = this.#liars.get(digest)
    const able = this.#servers.filter((server) => server.endpoint.servesDigests && !liars?.has(server))
    return [...able.filter((server) => !this.#isLate(server)), ...able.filter((server) => this.#isLate(server))]
  }

  /** A twin that must wait for what its TLS side says stays behind it. */
  #isLate(server: Server): boolean {
    if (this.#stumbled.has(server)) return true
    const { isPlainTwin, name } = server.endpoint
    return isPlainTwin && !this.#withoutTls.has(name)
  }

  async #ask<T>(able: readonly Server[], signal: AbortSignal, work: (server: Server) => Promise<T>): Promise<T> {
    const failures: { server: Server; error: unknown }[] = []
    for (const server of this.#reachability.lastResortLast(able)) {
      signal.throwIfAborted()
      if (server.endpoint.isPlainTwin && !this.#withoutTls.has(server.endpoint.name)) continue
      try {
        const result = await work(server)
        this.#reachability.works(server.endpoint)
        return result
      } catch (error) {
        signal.throwIfAborted()
        failures.push({ server, error })
        this.#note(server, error, able.length > 1)
      }
    }
    throw this.#verdict(failures)
  }

  #note(server: Server, error: unknown, hasOthers: boolean): void {
    const { endpoint } = server
    this.#stumbled.add(server)
    if (speaksNoTls(error)) this.#withoutTls.add(endpoint.name)
    if (isKind(error, 'registry-unavailable')) this.#reachability.fails(endpoint)
    if (!hasOthers) return
    const failure = error instanceof Error ? error.message : String(error)
    this.#log.info('Server did not give what was asked', { server: endpoint.origin, failure })
  }

  /**
   * The registry's own failure is what counts, what mirrors said goes behind it. A failure that may pass is one also when
   * others failed for good.
   */
  #verdict(failures: readonly { server: Server; error: unknown }[]): unknown {
    const [only, ...more] = failures
    if (only === undefined) {
      return new RuntimeError('failed-precondition', 'No server is configured that may give this')
    }
    if (more.length === 0) return only.error
    const passing = failures.find(({ error }) => error instanceof PassingFailure)
    if (passing) return passing.error
    const last = failures.findLast(({ server }) => !server.endpoint.isMirror) ?? failures.at(-1)
    if (!(last?.error instanceof RuntimeError)) return last?.error
    const others = failures
      .filter((each) => each !== last)
      .map(({ error }) => (error instanceof Error ? error.message : ''))
    return new RuntimeError(last.error.kind, `${last.error.message}; before: ${others.join('; ')}`, {
      cause: last.error,
    })
  }

  /** A stream that ends early is no error of the connection, but the next try is better made elsewhere. */
  async *#watched(server: Server, stream: BlobStream, end: number): AsyncGenerator<Uint8Array, void, undefined> {
    let left = end - stream.offset
    try {
      for await (const piece of stream.bytes) {
        left -= piece.length
        yield piece
      }
    } catch (error) {
      this.#stumbled.add(server)
      throw error
    }
    if (left > 0) this.#stumbled.add(server)
  }

  #blame(server: Server, digest: Digest): boolean {
    const liars = this.#liars.get(digest) ?? new Set()
    this.#liars.set(digest, liars.add(server))
    this.#log.warn('Server gave bytes that do not have their digest', { server: server.endpoint.origin, digest })
    return this.#byDigest(digest).length > 0
  }
}
