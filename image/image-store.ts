/**
 * The images of this node: pull, find, list, remove. The one entrance to this folder; everything else is parts of it.
 */

import { join } from 'node:path'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Finding } from '#storage/check/finding.ts'
import { KeyedLock } from '#storage/keyed-lock.ts'
import { AdditionalImages, lookAtStores } from './additional-images.ts'
import { collectGarbage } from './collect-garbage.ts'
import { authKey, readCredentials } from './credentials/credentials.ts'
import { freeBytes } from './free-bytes.ts'
import type { ImageRecord } from './image-record.ts'
import { ImageRecords, type IncompleteImage } from './image-records.ts'
import type { OpenImages, PullRequest } from './images-input.ts'
import { JoinPulls } from './join-pulls.ts'
import { Leases } from './leases.ts'
import { type LoadNeeds, type LoadRequest, loadImages } from './load/load-images.ts'
import { type OperationSnapshot, Operations } from './operations.ts'
import { pinnedBy } from './pinned.ts'
import { hostPlatform } from './platform.ts'
import { Trust } from './policy/trust.ts'
import { type PullNeeds, pullImage } from './pull-image.ts'
import { canonical, type ImageReference, isShortName } from './reference.ts'
import { Registries, type RegistriesState } from './registries/registries.ts'
import { HttpExchange } from './registry/http-exchange.ts'
import { type Asker, RegistrySources } from './registry/registry-sources.ts'
import { defaultTiming } from './registry/timing.ts'
import { Tokens } from './registry/tokens.ts'
import { registryPull } from './registry-pull.ts'
import { EvidenceStore, type Testimony } from './signatures/evidence-store.ts'
import { Slots } from './slots.ts'

export type { RegistryAuth } from './credentials/credentials.ts'
export type { ImageConfig } from './image-config.ts'
export type { ImageId } from './image-id.ts'
export type { ImageRecord, RunnableImage } from './image-record.ts'
export type { OpenImages, PullRequest } from './images-input.ts'
export type { OperationSnapshot } from './operations.ts'

/** Downloads of all pulls at one time; each may use fewer. */
const ALL_DOWNLOADS = 6
/** Connections of all pulls beside the first one of each download. */
const ALL_FURTHER = 9
/** An image that lost a layer keeps the others for so long, so that only that one is fetched when it is pulled again. */
const KEEP_INCOMPLETE_MS = 24 * 60 * 60 * 1000

/** Opens the records and makes the parts; nothing is fetched or collected. */
export const openImages = async (input: OpenImages): Promise<Images> => {
  const { storage, root, linux, log } = input
  const isComplete = ({ diffIds }: ImageRecord): boolean => diffIds.every((id) => storage.layers.has(id))
  const others = await AdditionalImages.open(input.additionalRoots ?? [], log)
  const additional = () => others.images
  const records = await ImageRecords.open({ root, linux, log, isComplete, additional })
  const isKnown = (id: string): boolean => records.everything.byId(id) !== undefined
  const evidence = await EvidenceStore.open(join(root, 'signatures'), isKnown, log)
  return new Images(input, records, evidence, () => lookAtStores(storage, others, records))
}

export class Images {
  readonly #input: OpenImages
  readonly #records: ImageRecords
  readonly #operations: Operations
  readonly #joined = new JoinPulls<ImageRecord>()
  readonly #closed = new AbortController()
  readonly #leases = new Leases()
  readonly #needs: PullNeeds
  readonly #exchange: HttpExchange
  readonly #registries: Registries
  readonly #sources: RegistrySources
  readonly #trust: Trust
  readonly #isPinned: (image: ImageRecord) => boolean
  /** Readers who must not wait see a changed configuration a little later than pulls do. */
  readonly #endLooking: () => void

  /**
   * @param lookAround brings what others may change up to date
   * @throws RuntimeError failed-precondition when a signature policy is broken
   */
  constructor(input: OpenImages, records: ImageRecords, evidence: EvidenceStore, lookAround: () => Promise<void>) {
    const { storage, linux, log, timing = defaultTiming, platform = hostPlatform(), config } = input
    this.#input = input
    this.#operations = new Operations(input.during)
    this.#records = records
    const { insecureRegistries, registriesConf, certsDirs, credentials } = config
    this.#exchange = new HttpExchange(timing, config.proxies)
    this.#registries = new Registries({ confFile: registriesConf, certsDirs, insecureRegistries, log })
    const tokens = new Tokens(this.#exchange, config)
    const registries = this.#registries
    this.#sources = new RegistrySources({ registries, credentials, exchange: this.#exchange, tokens, timing, log })
    const look = async (): Promise<void> => {
      registries.refresh()
      await lookAround().catch((error) => log.warn('Cannot look at image stores', { why: messageOf(error) }))
    }
    this.#endLooking = input.repeat?.(() => void look()) ?? (() => {})
    this.#isPinned = pinnedBy(config.pinned)
    const http = { exchange: this.#exchange, timing }
    this.#trust = new Trust({ settings: config.signatures, evidence, http, log })
    const { blobs, layers } = storage
    this.#needs = {
      blobs,
      layers,
      complete: (stack) => storage.complete(stack),
      platform,
      log,
      timing,
      leases: this.#leases,
      locks: new KeyedLock(),
      slots: new Slots(ALL_DOWNLOADS),
      parts: { ...config.parts, further: new Slots(ALL_FURTHER) },
      freeBytes: () => freeBytes(linux, storage.root),
      decryptionKeysDir: config.decryptionKeysDir,
    }
  }

  /**
   * Brings an image here, or finds that it is here; the registry is asked in any case. Callers who want the same with the
   * same credentials share one pull; it ends early only when the last of them has left.
   * @throws RuntimeError, see image/README.md; the signal's reason when this caller leaves
   */
  async pull({ reference: written, auth, namespace, signal }: PullRequest): Promise<ImageRecord> {
    this.#closed.signal.throwIfAborted()
    const { references } = this.#registries.candidates(written)
    // What can never be is refused before anybody is asked.
    for (const { domain } of references) readCredentials(auth, domain)
    const asker = { written, ...(auth && { auth }), ...(namespace !== undefined && { namespace }) }
    const key = JSON.stringify([references.map(canonical), authKey(auth), this.#namespaceKey(namespace)])
    return this.#joined.run(key, (pullSignal) => this.#pullFirst(references, asker, pullSignal), signal)
  }

  /** Pulls of different namespaces are one where namespaces have no credentials and no signature policy of their own. */
  #namespaceKey(namespace: string | undefined): string | undefined {
    const isOne = this.#input.config.credentials.namespaceAuthDir === undefined && !this.#trust.isNamespaced
    return isOne ? undefined : namespace
  }

  /**
   * Whether something may be made from an image, by the signature policy of this moment; asks no network.
   * @param use the name as the pod says it (empty when it knows only an id), and the pod's namespace
   * @throws RuntimeError signature-validation-failed
   */
  async authorize(
    image: ImageRecord,
    { name, namespace }: { name: string; namespace?: string | undefined },
  ): Promise<void> {
    const isId = name === '' || image.id === name || image.id.slice('sha256:'.length).startsWith(name)
    const meant = isId ? [] : this.#registries.knownCandidates(name)
    await this.#trust.admitUse(image, { name: isId ? '' : name, namespace, meant })
  }

  /**
   * The image that this text means, from memory: full id, name, name@digest, or the beginning of an id.
   * @throws RuntimeError invalid-argument when several ids begin so
   */
  resolve(text: string): ImageRecord | undefined {
    const { catalog } = this.#records
    return isShortName(text) ? catalog.find(text, this.#registries.knownCandidates(text)) : catalog.find(text)
  }

  /** Whether the kubelet must not remove an image to make room. */
  isPinned(image: ImageRecord): boolean {
    return this.#isPinned(image)
  }

  /** What is wrong with signature policies now; what was good before is in effect. */
  policyProblems(): readonly string[] {
    return this.#trust.problems()
  }

  /** What is in effect of the registry configuration, and what is wrong with it. */
  registriesState(): RegistriesState {
    return this.#registries.state()
  }

  /** All images of this moment. */
  list(): readonly ImageRecord[] {
    return this.#records.catalog.images
  }

  /**
   * Removes the image that this text means, with all its names, and what only it needed. Repeatable.
   * @throws RuntimeError failed-precondition when a container uses it
   */
  async remove(text: string): Promise<void> {
    const image = this.resolve(text) ?? this.#records.everything.find(text)
    if (!image) return
    if (!this.#records.has(image.id)) {
      throw new RuntimeError('failed-precondition', `Image "${image.id}" is in an additional store, which is only read`)
    }
    if (this.#input.inUse(image.id)) {
      throw new RuntimeError('failed-precondition', `Image "${image.id}" is in use by a container`)
    }
    await this.#records.remove(image.id)
    await this.#trust.forget(image.id)
    await this.collectGarbage()
  }

  /** Loads the images of a file or directory. See load/load-images.ts. */
  load(request: LoadRequest, signal?: AbortSignal): Promise<ImageRecord[]> {
    const { linux, root } = this.#input
    const record: LoadNeeds['record'] = (image, found) => this.#record(image, found)
    const needs = { ...this.#needs, linux, operations: this.#operations, trust: this.#trust, scratchDir: root, record }
    return loadImages(needs, request, signal ? AbortSignal.any([signal, this.#closed.signal]) : this.#closed.signal)
  }

  /** What speaks for an image is there before the image can be found. */
  async #record(image: ImageRecord, found: Partial<Testimony>): Promise<ImageRecord> {
    await this.#trust.remember(image.id, found)
    return this.#records.add(image)
  }

  /** Removes layers and documents that nothing needs; for a slow timer, so that failed pulls leave nothing for ever. */
  async collectGarbage(): Promise<void> {
    const { storage } = this.#input
    for (const { image, sinceMs } of this.#records.incomplete)
      if (Date.now() - sinceMs > KEEP_INCOMPLETE_MS) await this.#records.remove(image.id)
    await collectGarbage({ storage, leases: this.#leases, images: () => this.#records.everything.images })
  }

  /** Images that miss a layer, and are not shown until they are pulled again. */
  incomplete(): readonly IncompleteImage[] {
    return this.#records.incomplete
  }

  /** After layers were taken away that a check found damaged: says which images miss one, and writes their damaged records again. */
  async repair(findings: readonly Finding[]): Promise<void> {
    for (const { kind, id } of findings) if (kind === 'image') await this.#records.rewrite(id)
    this.#records.recheck()
  }

  /** Bytes and inodes of images and of containers' own layers; cheap. */
  fsInfo(): ReturnType<Storage['usage']> {
    return this.#input.storage.usage()
  }

  /** Pulls and imports in flight, oldest first. */
  operations(): readonly OperationSnapshot[] {
    return this.#operations.list()
  }

  /** Stops pulls (what they received stays for later) and closes connections. */
  async close(): Promise<void> {
    const reason = new RuntimeError('cancelled', 'The image store is closing')
    this.#closed.abort(reason)
    this.#endLooking()
    await this.#joined.stop(reason)
    this.#exchange.close()
  }

  /** A short name can mean several images: the first that can be had. */
  async #pullFirst(references: readonly ImageReference[], asker: Asker, signal: AbortSignal): Promise<ImageRecord> {
    let failure: unknown
    for (const reference of references) {
      signal.throwIfAborted()
      try {
        return await this.#pull(reference, asker, signal)
      } catch (error) {
        failure = error
      }
    }
    throw failure
  }

  async #pull(reference: ImageReference, asker: Asker, signal: AbortSignal): Promise<ImageRecord> {
    const { log } = this.#input
    const what = canonical(reference)
    using operation = this.#operations.start(what)
    const record = (image: ImageRecord, found: Partial<Testimony>): Promise<ImageRecord> => this.#record(image, found)
    const input = registryPull({ sources: this.#sources, trust: this.#trust, operation, record }, reference, asker)
    const image = await pullImage(this.#needs, input, signal)
    log.info('Pulled image', { image: what, id: image.id })
    return image
  }
}
