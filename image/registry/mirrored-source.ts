/**
 * Several servers as one source: asks them in order until one gives what is wanted. Content by digest can come from
 * any of them, since the digest decides; a blob that one of them broke off is continued at the next.
 */

import { isKind, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { Digest } from '#storage/digest.ts'
import type { BlobStream, DocumentTarget, FetchedDocument, ImageSource } from '../image-source.ts'
import type { Descriptor } from '../manifest.ts'
import type { Endpoint } from '../registries/route.ts'
import type { Reachability } from './reachability.ts'
import { PassingFailure, speaksNoTls } from './registry-error.ts'

export interface Server {
  readonly endpoint: Endpoint
  readonly source: ImageSource
}

export class MirroredSource implements ImageSource {
  readonly #servers: readonly Server[]
  readonly #reachability: Reachability
  readonly #log: Log
  /** Served something in this pull. */
  #good: Server | undefined
  /** Broke off in the middle of a blob. */
  readonly #stumbled = new Set<Server>()
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

  smallBlob(descriptor: Descriptor, signal: AbortSignal): Promise<Buffer> {
    return this.#ask(this.#byDigest(descriptor.digest), signal, ({ source }) => source.smallBlob(descriptor, signal))
  }

  blob(descriptor: Descriptor, offset: number, signal: AbortSignal, end?: number): Promise<BlobStream> {
    return this.#ask(this.#byDigest(descriptor.digest), signal, async (server) => {
      const stream = await server.source.blob(descriptor, offset, signal, end)
      return {
        ...stream,
        bytes: this.#watched(server, stream.bytes),
        blame: () => this.#blame(server, descriptor.digest),
      }
    })
  }

  /** Who served last comes first, who broke off or cannot be reached last, who lied about this digest not at all. */
  #byDigest(digest: Digest): Server[] {
    const able = this.#servers.filter(({ endpoint }) => endpoint.servesDigests)
    const honest = able.filter((server) => !this.#liars.get(digest)?.has(server))
    const first = honest.filter((server) => server === this.#good && !this.#stumbled.has(server))
    const rest = honest.filter((server) => !first.includes(server))
    const whole = rest.filter((server) => !this.#stumbled.has(server))
    return [...first, ...whole, ...rest.filter((server) => this.#stumbled.has(server))]
  }

  async #ask<T>(able: readonly Server[], signal: AbortSignal, work: (server: Server) => Promise<T>): Promise<T> {
    const failures: { server: Server; error: unknown }[] = []
    for (const server of this.#reachability.lastResortLast(able)) {
      signal.throwIfAborted()
      if (server.endpoint.isPlainTwin && !speaksNoTls(failures.at(-1)?.error)) continue
      try {
        const result = await work(server)
        this.#good = server
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

  #note({ endpoint }: Server, error: unknown, hasOthers: boolean): void {
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

  async *#watched(server: Server, bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      yield* bytes
    } catch (error) {
      this.#stumbled.add(server)
      throw error
    }
  }

  #blame(server: Server, digest: Digest): boolean {
    const liars = this.#liars.get(digest) ?? new Set()
    this.#liars.set(digest, liars.add(server))
    this.#log.warn('Server gave bytes that do not have their digest', { server: server.endpoint.origin, digest })
    return this.#byDigest(digest).length > 0
  }
}
