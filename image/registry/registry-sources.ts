/** From a reference to a source that can be pulled from: route, connections, credentials and clients put together. */

import type { Log } from '#proto/log.ts'
import type { RegistryAuth } from '../credentials/credentials.ts'
import { type CredentialSettings, credentialSource } from '../credentials/find-credentials.ts'
import { canonical, type ImageReference } from '../reference.ts'
import type { Registries } from '../registries/registries.ts'
import type { Endpoint } from '../registries/route.ts'
import type { SignatureSource } from '../signatures/fetch-attachments.ts'
import { RegistryClient } from './client.ts'
import { readConnection } from './connections.ts'
import type { HttpExchange } from './http-exchange.ts'
import { MirroredSource } from './mirrored-source.ts'
import { Reachability } from './reachability.ts'
import type { Timing } from './timing.ts'
import type { Tokens } from './tokens.ts'

export interface SourcesInput {
  readonly registries: Registries
  readonly credentials: CredentialSettings
  readonly exchange: HttpExchange
  readonly tokens: Tokens
  readonly timing: Timing
  readonly log: Log
}

/** Who asks for an image, and how they wrote it. */
export interface Asker {
  readonly written: string
  readonly auth?: RegistryAuth
  /** Of the pod. */
  readonly namespace?: string
}

export class RegistrySources {
  readonly #input: SourcesInput
  readonly #reachability = new Reachability()

  constructor(input: SourcesInput) {
    this.#input = input
  }

  /**
   * @throws RuntimeError permission-denied when the reference is blocked; failed-precondition when configuration or
   *   certificates are broken
   */
  open(reference: ImageReference, asker: Asker): SignatureSource {
    const { registries, log } = this.#input
    const { endpoints, rule, passedOver } = registries.route(reference)
    const own = log.child({ image: canonical(reference) })
    if (passedOver.length > 0) own.debug('Two dialects speak for this registry', { rule, passedOver })
    const servers = endpoints.map((endpoint, index) => ({
      endpoint,
      source: this.#client(endpoint, reference, asker, { isLast: index === endpoints.length - 1, log: own }),
    }))
    return new MirroredSource(servers, this.#reachability, own)
  }

  #client(
    endpoint: Endpoint,
    reference: ImageReference,
    asker: Asker,
    { isLast, log }: { isLast: boolean; log: Log },
  ): SignatureSource {
    const { exchange, tokens, timing, credentials, registries } = this.#input
    const { name, origin, prefix, repository, upstream, headers, tls } = endpoint
    const patience = isLast ? timing : impatient(timing)
    const question = {
      ...asker,
      server: name,
      repository,
      reference,
      configuredHelpers: registries.conf().credentialHelpers,
    }
    return new RegistryClient({
      host: {
        name,
        origin,
        prefix,
        ...(upstream !== undefined && { upstream }),
        headers,
        connection: readConnection(tls, endpoint.dialTimeoutMs ?? (isLast ? undefined : patience.connectMs)),
      },
      path: repository,
      credentials: credentialSource(credentials, question),
      exchange,
      tokens,
      timing: patience,
      log,
    })
  }
}

/** While there are others to ask. */
const impatient = (timing: Timing): Timing => ({
  ...timing,
  connectMs: Math.min(timing.connectMs, 10_000),
  attempts: Math.min(timing.attempts, 2),
})
