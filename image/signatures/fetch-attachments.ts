/**
 * Sigstore signatures in the registry of the image itself: cosign's first form under the tag `sha256-<hex>.sig`, bundles (and the first
 * form, if cosign is told so) among the referrers of the digest, or where a registry knows no referrers, in the index under the tag
 * `sha256-<hex>`.
 */

import * as z from 'zod'
import { isKind } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { Digest } from '#storage/digest.ts'
import type { FetchedDocument, ImageSource } from '../image-source.ts'
import { check, type Descriptor, descriptorField } from '../manifest.ts'
import { parseStrictJson } from '../strict-json.ts'
import { type Evidence, MAX_SIGNATURE_BYTES, MAX_SIGNATURES } from './evidence.ts'

/** Where an image comes from, and what refers to it. */
export interface SignatureSource extends ImageSource {
  /** The registry's own list; nothing where it keeps none. */
  referrers(digest: Digest, signal: AbortSignal): Promise<FetchedDocument | undefined>
}

const SIMPLE_SIGNING = 'application/vnd.dev.cosign.simplesigning.v1+json'
const BUNDLE = /^application\/vnd\.dev\.sigstore\.bundle(\.v\d+\.\d+\+json|\+json;version=\d+\.\d+)$/

/**
 * What lists of referrers call a manifest that may hold a signature, beside a bundle's type. cosign 3 itself writes the empty
 * type of the config where it has to keep the list under a tag, although the manifest says better.
 */
const MAY_BE_ONE: ReadonlySet<string | undefined> = new Set([
  undefined,
  'application/vnd.dev.cosign.artifact.sig.v1+json',
  'application/vnd.oci.empty.v1+json',
  'application/vnd.oci.image.config.v1+json',
])

const annotations = z.record(z.string(), z.string().max(MAX_SIGNATURE_BYTES)).nullish()

const manifestFields = z.object({
  layers: z.array(descriptorField.extend({ annotations })).max(1000).nullable(),
})

const indexFields = z.object({
  manifests: z
    .array(descriptorField.extend({ artifactType: z.string().max(255).optional() }))
    .max(4096)
    .nullable(),
})

/** @throws RuntimeError as a pull does, when the registry cannot be asked. What is there and broken is passed over. */
export const fetchAttachments = async (
  source: SignatureSource,
  digest: Digest,
  log: Log,
  signal: AbortSignal,
): Promise<Evidence[]> => {
  const beside = await ifThere(source.document({ tag: `${tagOf(digest)}.sig` }, signal))
  const found = beside ? await readAttached(source, beside, log, signal) : []
  const list =
    (await ifThere(source.referrers(digest, signal))) ??
    (await ifThere(source.document({ tag: tagOf(digest) }, signal)))
  for (const entry of (list ? readIndex(list, log) : []).slice(0, MAX_SIGNATURES)) {
    const document = await ifThere(source.document({ digest: entry.digest }, signal))
    if (document) found.push(...(await readAttached(source, document, log, signal)))
  }
  return found.slice(0, MAX_SIGNATURES)
}

const tagOf = (digest: Digest): string => digest.replace(':', '-')

/** All signatures that a manifest holds, of either form. */
const readAttached = async (
  source: SignatureSource,
  document: FetchedDocument,
  log: Log,
  signal: AbortSignal,
): Promise<Evidence[]> => {
  const found: Evidence[] = []
  for (const { annotations: said, ...descriptor } of readLayers(document, log).slice(0, MAX_SIGNATURES)) {
    if (!isSmall(descriptor)) continue
    const signature = said?.['dev.cosignproject.cosign/signature']
    if (BUNDLE.test(descriptor.mediaType)) {
      found.push({ kind: 'bundle', json: (await source.smallBlob(descriptor, signal)).toString('utf8') })
    } else if (descriptor.mediaType === SIMPLE_SIGNING && signature !== undefined) {
      found.push(cosignSignature(await source.smallBlob(descriptor, signal), signature, said ?? {}))
    }
  }
  return found
}

const cosignSignature = (payload: Buffer, signature: string, said: Readonly<Record<string, string>>): Evidence => {
  const certificate = said['dev.sigstore.cosign/certificate']
  const chain = said['dev.sigstore.cosign/chain']
  const receipt = said['dev.sigstore.cosign/bundle']
  return {
    kind: 'cosign',
    payload: payload.toString('base64'),
    // Written down as it is would break the record when it is no base64.
    signature: Buffer.from(signature, 'base64').toString('base64'),
    ...(certificate && { certificate }),
    ...(chain && { chain }),
    ...(receipt && { receipt }),
  }
}

const isSmall = ({ size }: Descriptor): boolean => size <= MAX_SIGNATURE_BYTES

/** A registry that has nothing says so in many ways; one that cannot be reached is something else. */
const ifThere = async <T>(asked: Promise<T>): Promise<T | undefined> => {
  try {
    return await asked
  } catch (error) {
    if (isKind(error, 'not-found') || isKind(error, 'failed-precondition')) return undefined
    throw error
  }
}

const readLayers = (
  { bytes, digest }: FetchedDocument,
  log: Log,
): z.infer<typeof manifestFields>['layers'] & object => {
  try {
    return check(manifestFields, parseStrictJson(bytes, digest), digest).layers ?? []
  } catch (error) {
    log.debug('Signature is passed over', { digest, error })
    return []
  }
}

const readIndex = ({ bytes, digest }: FetchedDocument, log: Log): Descriptor[] => {
  try {
    const { manifests } = check(indexFields, parseStrictJson(bytes, digest), digest)
    return (manifests ?? []).filter(
      ({ artifactType }) => MAY_BE_ONE.has(artifactType) || BUNDLE.test(artifactType ?? ''),
    )
  } catch (error) {
    log.debug('List of signatures is passed over', { digest, error })
    return []
  }
}
