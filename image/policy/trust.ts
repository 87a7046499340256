/**
 * Who may come to this node, and who may run on it: the policy asked when an image is pulled, when it is loaded, and again when
 * something is made from it, then without the network.
 */

import { RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { Digest } from '#storage/digest.ts'
import type { ImageId } from '../image-id.ts'
import type { ImageRecord } from '../image-record.ts'
import type { SignatureSettings } from '../images-config.ts'
import type { Descriptor } from '../manifest.ts'
import { canonical, type ImageReference, parseReference } from '../reference.ts'
import type { Evidence } from '../signatures/evidence.ts'
import type { EvidenceStore, Testimony } from '../signatures/evidence-store.ts'
import { fetchAttachments, type SignatureSource } from '../signatures/fetch-attachments.ts'
import { fetchLookaside, type LookasideInput } from '../signatures/fetch-lookaside.ts'
import { signaturePlaces } from '../signatures/registries-d.ts'
import { runVerifiers } from '../verifiers/run-verifiers.ts'
import { judgeImage, needSignatures } from './judge-image.ts'
import { requirementsFor, requirementsForFile } from './match-scope.ts'
import { type ChosenPolicy, type Policies, policiesOf } from './policies.ts'
import { ACCEPT_ALL } from './policy.ts'

export interface TrustInput {
  readonly settings: SignatureSettings
  readonly evidence: EvidenceStore
  readonly http: Omit<LookasideInput, 'log'>
  readonly log: Log
}

export interface Arrival {
  readonly reference: ImageReference
  readonly namespace: string | undefined
  readonly source: SignatureSource
  /** What the name led to at first: an index or a manifest. */
  readonly top: Descriptor
  /** Digests from there to the manifest. */
  readonly trail: readonly Digest[]
}

export interface Use {
  /** As the pod says it; empty when it says only an id. */
  readonly name: string
  readonly namespace: string | undefined
  /** What the name can mean. */
  readonly meant: readonly ImageReference[]
}

const MAX_VERDICTS = 4096

export class Trust {
  readonly #input: TrustInput
  readonly #policies: Policies
  /** Uses that were found good, by image, name and policy. */
  readonly #good = new Set<string>()

  /** @throws RuntimeError failed-precondition when a policy is broken */
  constructor(input: TrustInput) {
    this.#input = input
    this.#policies = policiesOf(input.settings, input.log)
    this.#policies.check()
  }

  /** Whether namespaces can differ. */
  get isNamespaced(): boolean {
    return this.#policies.areNamespaced
  }

  /** What is wrong with policies now; what was good before is in effect. */
  problems(): readonly string[] {
    return this.#policies.problems()
  }

  /**
   * Before anything but documents has been fetched.
   * @returns what to remember of it
   * @throws RuntimeError signature-validation-failed; what fetching throws
   */
  async admitPull(
    { reference, namespace, source, top, trail }: Arrival,
    signal: AbortSignal,
  ): Promise<Partial<Testimony>> {
    const { verifiers } = this.#input.settings
    const { policy } = this.#policies.for(namespace)
    const { scope, requirements } = requirementsFor(policy, reference)
    const log = this.#input.log.child({ image: canonical(reference) })
    const needs = {
      simple: requirements.some(({ type }) => type === 'signedBy'),
      sigstore: requirements.some(({ type }) => type === 'sigstoreSigned'),
    }
    const evidence: Evidence[] = []
    if (needSignatures(requirements)) {
      for (const digest of [...new Set(trail)].reverse()) {
        evidence.push(...(await this.#find({ reference, source, digest, needs, log }, signal)))
      }
    }
    const why = await judgeImage(requirements, { reference, digests: trail, evidence }, signal)
    if (why !== undefined) throw refused(canonical(reference), scope, why)
    await runVerifiers(verifiers, { name: canonical(reference), descriptor: top, log }, signal)
    return { digests: [...trail], signatures: evidence }
  }

  /** Before an image of a file is unpacked. @param transport "oci", "oci-archive", "docker-archive" */
  admitFile(transport: string, path: string): Partial<Testimony> {
    const { policy } = this.#policies.for(undefined)
    const { scope, requirements } = requirementsForFile(policy, transport, path)
    if (requirements.every(({ type }) => type === 'insecureAcceptAnything'))
      return { loadedFrom: [{ transport, path }] }
    throw refused(path, scope, `"${transport}" may not be loaded from there`)
  }

  /** Keeps what speaks for an image, before the image can be found. Most have nothing, and cost nothing. */
  async remember(id: ImageId, found: Partial<Testimony>): Promise<void> {
    if (!found.signatures?.length && !found.loadedFrom?.length) return
    await this.#input.evidence.add(id, found)
  }

  async forget(id: ImageId): Promise<void> {
    await this.#input.evidence.remove(id)
  }

  /**
   * Whether something may be made from an image that is here, by the policy of now and what was found when it came.
   * @throws RuntimeError signature-validation-failed
   */
  async admitUse(image: ImageRecord, use: Use): Promise<void> {
    const chosen = this.#policies.for(use.namespace)
    if (chosen.policy === ACCEPT_ALL) return
    const names = namesOf(image, use)
    const key = JSON.stringify([image.id, names.map(canonical), chosen.version])
    if (this.#good.has(key)) return
    await this.#judgeUse(image, names, chosen)
    if (this.#good.size >= MAX_VERDICTS) this.#good.clear()
    this.#good.add(key)
  }

  async #judgeUse(image: ImageRecord, names: readonly ImageReference[], { policy }: ChosenPolicy): Promise<void> {
    const { digests, signatures, loadedFrom } = await this.#input.evidence.read(image.id)
    const known = [...new Set([...digests, image.manifestDigest])]
    const faults: RuntimeError[] = []
    for (const reference of names) {
      const { scope, requirements } = requirementsFor(policy, reference)
      const why = await judgeImage(requirements, { reference, digests: known, evidence: signatures })
      if (why === undefined) return
      faults.push(refused(canonical(reference), scope, `${why}; pull it again if it has been signed since`))
    }
    if (loadedFrom.some(({ transport, path }) => isAccepted(policy, transport, path))) return
    throw faults[0] ?? refused(image.id, 'default', 'it has no name that a policy could speak of')
  }

  async #find(
    {
      reference,
      source,
      digest,
      needs,
      log,
    }: {
      reference: ImageReference
      source: SignatureSource
      digest: Digest
      needs: { simple: boolean; sigstore: boolean }
      log: Log
    },
    signal: AbortSignal,
  ): Promise<Evidence[]> {
    const { http, settings } = this.#input
    const { lookaside, useAttachments } = signaturePlaces(settings.placesDir, reference)
    const simple =
      needs.simple && lookaside
        ? await fetchLookaside({ ...http, log }, lookaside, { path: reference.path, digest }, signal)
        : []
    const sigstore = needs.sigstore && useAttachments ? await fetchAttachments(source, digest, log, signal) : []
    return [...simple, ...sigstore]
  }
}

const isAccepted = (policy: ChosenPolicy['policy'], transport: string, path: string): boolean =>
  requirementsForFile(policy, transport, path).requirements.every(({ type }) => type === 'insecureAcceptAnything')

/** By what the pod says; where it says an id alone, by any name that the image has. */
const namesOf = ({ repoTags, repoDigests }: ImageRecord, { name, meant }: Use): readonly ImageReference[] => {
  if (name === '' || meant.length === 0) return [...repoTags, ...repoDigests].map(parseReference)
  const known = new Set([...repoTags, ...repoDigests])
  const ours = meant.filter((reference) => known.has(canonical(reference)))
  // A tag that has moved to another image since is still what the pod asked for.
  return ours.length > 0 ? ours : meant
}

const refused = (what: string, scope: string, why: string): RuntimeError =>
  new RuntimeError('signature-validation-failed', `SignatureValidationFailed: "${what}" is refused by ${scope}: ${why}`)
