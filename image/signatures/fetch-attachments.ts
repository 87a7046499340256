/**
 * Sigstore signatures in the registry of the image itself: cosign's first form under the tag `sha256-<hex>.sig`, bundles among
 * the referrers of the digest, or where a registry knows no referrers, in the index under the tag `sha256-<hex>`.
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
  const cosign = await fetchCosign(source, digest, log, signal)
  const bundles = await fetchBundles(source, digest, log, signal)
  return [...cosign, ...bundles].slice(0, MAX_SIGNATURES)
}

const tagOf = (digest: Digest): string => digest.replace(':', '-')

const fetchCosign = async (
  source: SignatureSource,
  digest: Digest,
  log: Log,
  signal: AbortSignal,
): Promise<Evidence[]> => {
  const document = await ifThere(source.document({ tag: `${tagOf(digest)}.sig` }, signal))
  const layers = document ? readLayers(document, log) : []
  const found: Evidence[] = []
  for (const { annotations: said, ...descriptor } of layers.slice(0, MAX_SIGNATURES)) {
    const signature = said?.['dev.cosignproject.cosign/signature']
    if (descriptor.mediaType !== SIMPLE_SIGNING || signature === undefined || !isSmall(descriptor)) continue
    const payload = await source.smallBlob(descriptor, signal)
    const certificate = said?.['dev.sigstore.cosign/certificate']
    const chain = said?.['dev.sigstore.cosign/chain']
    const receipt = said?.['dev.sigstore.cosign/bundle']
    found.push({
      kind: 'cosign',
      payload: payload.toString('base64'),
      // Written down as it is would break the record when it is no base64.
      signature: Buffer.from(signature, 'base64').toString('base64'),
      ...(certificate && { certificate }),
      ...(chain && { chain }),
      ...(receipt && { receipt }),
    })
  }
  return found
}

const fetchBundles = async (
  source: SignatureSource,
  digest: Digest,
  log: Log,
  signal: AbortSignal,
): Promise<Evidence[]> => {
  const list =
    (await ifThere(source.referrers(digest, signal))) ??
    (await ifThere(source.document({ tag: tagOf(digest) }, signal)))
  const entries = list ? readIndex(list, log) : []
  const found: Evidence[] = []
  for (const entry of entries.slice(0, MAX_SIGNATURES)) {
    const document = await ifThere(source.document({ digest: entry.digest }, signal))
    const [layer] = document ? readLayers(document, log) : []
    if (layer === undefined || !BUNDLE.test(layer.mediaType) || !isSmall(layer)) continue
    found.push({ kind: 'bundle', json: (await source.smallBlob(layer, signal)).toString('utf8') })
  }
  return found
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
    // Who does not say what it is may be one.
    return (manifests ?? []).filter(({ artifactType }) => artifactType === undefined || BUNDLE.test(artifactType))
  } catch (error) {
    log.debug('List of signatures is passed over', { digest, error })
    return []
  }
}
