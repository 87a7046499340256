/**
 * Sigstore signatures in both forms, cosign's annotations and bundles, without asking anybody: the log's receipt is checked
 * by the log's key. @sigstore/verify is loaded only when there is something to verify.
 */

import { createHash, verify as isSignedBy, type KeyObject } from 'node:crypto'
import type { Bundle, SerializedBundle } from '@sigstore/bundle'
import type { SignedEntity } from '@sigstore/verify'
import { messageOf } from '#proto/errors.ts'
import type { SigstoreSigned } from '../policy/policy.ts'
import { readClaim, readStatement } from './claim.ts'
import { asBundle } from './cosign-bundle.ts'
import { BadSignature, type Claim, type CosignSignature } from './evidence.ts'
import { certifiedKey, type Presented } from './verify-certificate.ts'

/** @returns what was signed, once every demand but that on its name is met. @throws BadSignature */
export const verifyCosign = async (signature: CosignSignature, wanted: SigstoreSigned): Promise<Claim[]> => {
  const payload = Buffer.from(signature.payload, 'base64')
  const bundle = await read(asBundle(signature))
  const presented =
    signature.certificate === undefined ? undefined : { leaf: signature.certificate, chain: signature.chain ?? '' }
  await verify(bundle, wanted, presented, payload)
  return [readClaim(payload, 'cosign')]
}

/** The same for a bundle. @param json of the bundle */
export const verifyBundle = async (json: string, wanted: SigstoreSigned): Promise<Claim[]> => {
  const bundle = await read(parse(json))
  const { content } = bundle
  if (content.$case !== 'dsseEnvelope') throw new BadSignature('it is a bundle that does not say what it is about')
  const { payloadType, payload } = content.dsseEnvelope
  if (payloadType !== 'application/vnd.in-toto+json') throw new BadSignature('it is a bundle of an unknown type')
  await verify(bundle, wanted, certificateIn(bundle))
  return readStatement(payload)
}

const parse = (json: string): SerializedBundle => {
  try {
    return JSON.parse(json)
  } catch {
    throw new BadSignature('it is no JSON')
  }
}

const read = async (serialized: SerializedBundle): Promise<Bundle> => {
  const { bundleFromJSON } = await import('@sigstore/bundle')
  try {
    return bundleFromJSON(serialized)
  } catch (cause) {
    throw new BadSignature(`it is no sigstore bundle: ${messageOf(cause)}`, { cause })
  }
}

const certificateIn = ({ verificationMaterial: { content } }: Bundle): Presented | undefined => {
  if (content.$case === 'publicKey') return undefined
  const all = content.$case === 'certificate' ? [content.certificate] : content.x509CertificateChain.certificates
  const [leaf = '', ...chain] = all.map(({ rawBytes }) => pem(rawBytes))
  return { leaf, chain: chain.join('\n') }
}

const pem = (der: Uint8Array): string =>
  `-----BEGIN CERTIFICATE-----\n${Buffer.from(der).toString('base64')}\n-----END CERTIFICATE-----\n`

/** One of the keys must have made it; with a log, only what the log has received counts. */
const verify = async (
  bundle: Bundle,
  { signer, rekorKeys }: SigstoreSigned,
  presented: Presented | undefined,
  payload?: Buffer,
): Promise<void> => {
  const failures: string[] = []
  for (const key of keysFor(bundle, signer, presented)) {
    try {
      return await verifyBy(key, bundle, rekorKeys, payload)
    } catch (error) {
      failures.push(messageOf(error))
    }
  }
  throw new BadSignature(`no key of the policy made it, or no log has it (${[...new Set(failures)].join('; ')})`)
}

const keysFor = (
  bundle: Bundle,
  signer: SigstoreSigned['signer'],
  presented: Presented | undefined,
): readonly KeyObject[] => {
  if (signer.by === 'keys') return signer.keys
  if (presented === undefined) throw new BadSignature('it has no certificate')
  const at = signer.by === 'fulcio' ? loggedAt(bundle) : new Date()
  return [certifiedKey(signer, presented, at)]
}

/** When the log received it; the receipt, which is checked before anything is believed, covers this time. */
const loggedAt = ({ verificationMaterial: { tlogEntries } }: Bundle): Date => {
  const [entry] = tlogEntries
  if (!entry?.inclusionPromise || tlogEntries.length > 1) {
    throw new BadSignature('it has no receipt of a log that says when it was made')
  }
  return new Date(Number(entry.integratedTime) * 1000)
}

const ALWAYS = { start: new Date(0), end: new Date(8_640_000_000_000_000) }

const verifyBy = async (
  key: KeyObject,
  bundle: Bundle,
  rekorKeys: readonly KeyObject[],
  payload: Buffer | undefined,
): Promise<void> => {
  const { toSignedEntity, Verifier } = await import('@sigstore/verify')
  const isLogged = rekorKeys.length > 0
  const { tlogEntries } = bundle.verificationMaterial
  const trust = {
    certificateAuthorities: [],
    timestampAuthorities: [],
    ctlogs: [],
    tlogs: rekorKeys.map((publicKey) => ({
      publicKey,
      logID: createHash('sha256')
        .update(publicKey.export({ type: 'spki', format: 'der' }))
        .digest(),
      // A policy knows a log by its key alone; whatever it calls itself in a checkpoint is its name.
      baseURL: tlogEntries.map(({ inclusionProof }) => inclusionProof?.checkpoint?.envelope ?? '').join('\n'),
      validFor: ALWAYS,
    })),
    publicKey: () => ({ publicKey: key, validFor: () => true }),
  }
  const { verificationMaterial } = bundle
  // No policy can speak of timestamps, but the library reads them, and one that it cannot read would spoil the rest.
  const unstamped = {
    ...bundle,
    verificationMaterial: { ...verificationMaterial, timestampVerificationData: undefined },
  }
  const signed = toSignedEntity(unstamped, payload)
  const entity = {
    ...signed,
    signature: payload ? ofMessage(signed.signature, payload) : signed.signature,
    key: { $case: 'public-key' as const, hint: '' },
    // What nobody asked for cannot be checked: the policy has no key for it.
    tlogEntries: isLogged ? tlogEntries : [],
    timestamps: [],
  }
  const threshold = { ctlogThreshold: 0, timestampThreshold: 0, tlogThreshold: isLogged ? 1 : 0 }
  new Verifier(trust, threshold).verify(entity)
}

type SignatureContent = SignedEntity['signature']

/** Ed25519 signs a message and not its digest, which is all that the library knows to do for messages. */
const ofMessage = (content: SignatureContent, message: Buffer): SignatureContent => ({
  signature: content.signature,
  compareSignature: (signature) => content.compareSignature(signature),
  compareDigest: (digest) => content.compareDigest(digest),
  compareSignedDigest: (digest) => content.compareSignedDigest(digest),
  verifySignature: (key) =>
    key.asymmetricKeyType === 'ed25519'
      ? isSignedBy(null, message, key, content.signature)
      : content.verifySignature(key),
})
