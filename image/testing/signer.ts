/** Signs images as cosign does, in both of its forms, with a transparency log of its own. For tests; nothing here is verified. */

import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { type Digest, digestOf } from '#storage/digest.ts'
import { OCI_INDEX, OCI_MANIFEST } from '../media-types.ts'
import type { CosignSignature } from '../signatures/evidence.ts'
import type { BuiltImage, BuiltIndex } from './image-builder.ts'

export interface KeyPair {
  readonly publicKey: KeyObject
  readonly privateKey: KeyObject
  readonly pem: string
}

const makePair = {
  'P-256': () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  Ed25519: () => generateKeyPairSync('ed25519'),
  RSA: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
}

export const makeKey = (kind: 'P-256' | 'Ed25519' | 'RSA' = 'P-256'): KeyPair => {
  const { publicKey, privateKey } = makePair[kind]()
  return { publicKey, privateKey, pem: publicKey.export({ type: 'spki', format: 'pem' }).toString() }
}

/** What cosign signs: repository and digest. */
export const claimOf = (repository: string, digest: Digest, type = 'cosign container image signature'): Buffer =>
  Buffer.from(
    JSON.stringify({
      critical: {
        identity: { 'docker-reference': repository },
        image: { 'docker-manifest-digest': digest },
        type,
      },
      optional: null,
    }),
  )

const base64 = (bytes: Uint8Array | string): string => Buffer.from(bytes).toString('base64')

/** Ed25519 hashes by itself. */
const signed = (payload: Uint8Array, { privateKey }: KeyPair): string =>
  base64(sign(privateKey.asymmetricKeyType === 'ed25519' ? null : 'sha256', payload, privateKey))

export const signClaim = (payload: Buffer, key: KeyPair): CosignSignature => ({
  kind: 'cosign',
  payload: base64(payload),
  signature: signed(payload, key),
})

const logIdOf = (log: KeyPair): Buffer =>
  createHash('sha256')
    .update(log.publicKey.export({ type: 'spki', format: 'der' }))
    .digest()

/** The log's word for having received a signature at a time. */
interface Received {
  readonly body: string
  readonly integratedTime: number
  readonly logID: string
  readonly logIndex: number
}

const receive = (log: KeyPair, entry: object, at: Date): { set: string; received: Received } => {
  const received = {
    body: base64(JSON.stringify(entry)),
    integratedTime: Math.floor(at.getTime() / 1000),
    logID: logIdOf(log).toString('hex'),
    logIndex: 0,
  }
  // Canonical: names in order, no space.
  return { received, set: signed(Buffer.from(JSON.stringify(received)), log) }
}

const hashedRekord = (signature: string, payload: Uint8Array, signer: string): object => ({
  apiVersion: '0.0.1',
  kind: 'hashedrekord',
  spec: {
    data: { hash: { algorithm: 'sha256', value: createHash('sha256').update(payload).digest('hex') } },
    signature: { content: signature, publicKey: { content: base64(signer) } },
  },
})

/** The same signature with the receipt of a log. */
export const logged = (signature: CosignSignature, log: KeyPair, signer: string, at = new Date()): CosignSignature => {
  const payload = Buffer.from(signature.payload, 'base64')
  const { set, received } = receive(log, hashedRekord(signature.signature, payload, signer), at)
  return { ...signature, receipt: JSON.stringify({ SignedEntryTimestamp: set, Payload: received }) }
}

const STATEMENT = 'application/vnd.in-toto+json'

const preAuthEncoding = (type: string, payload: Buffer): Buffer =>
  Buffer.concat([Buffer.from(`DSSEv1 ${type.length} ${type} ${payload.length} `), payload])

export const statementOf = (
  digest: Digest,
  { name, predicateType = 'https://sigstore.dev/cosign/sign/v1' }: { name?: string; predicateType?: string } = {},
): Buffer =>
  Buffer.from(
    JSON.stringify({
      _type: 'https://in-toto.io/Statement/v1',
      subject: [{ ...(name !== undefined && { name }), digest: { sha256: digest.slice('sha256:'.length) } }],
      predicateType,
      predicate: {},
    }),
  )

export interface BundleRecipe {
  readonly payload: Buffer
  readonly key: KeyPair
  /** PEM; without one the bundle says nothing of who made it. */
  readonly certificate?: string
  readonly log?: KeyPair
  readonly at?: Date
}

/** What `cosign sign` of version 3 attaches: a bundle, JSON. */
export const bundleOf = ({ payload, key, certificate, log, at = new Date() }: BundleRecipe): string => {
  const signature = signed(preAuthEncoding(STATEMENT, payload), key)
  const rawBytes = base64(certificate === undefined ? '' : derOf(certificate))
  return JSON.stringify({
    mediaType: 'application/vnd.dev.sigstore.bundle.v0.3+json',
    verificationMaterial: {
      ...(certificate === undefined ? { publicKey: { hint: 'any' } } : { certificate: { rawBytes } }),
      ...(log && { tlogEntries: [entryOf(log, { payload, signature, certificate: certificate ?? key.pem, at })] }),
    },
    dsseEnvelope: { payload: base64(payload), payloadType: STATEMENT, signatures: [{ sig: signature }] },
  })
}

const derOf = (pem: string): Buffer => Buffer.from(pem.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64')

interface Entry {
  readonly payload: Buffer
  readonly signature: string
  readonly certificate: string
  readonly at: Date
}

const entryOf = (log: KeyPair, { payload, signature, certificate, at }: Entry): object => {
  const body = {
    apiVersion: '0.0.1',
    kind: 'dsse',
    spec: {
      payloadHash: { algorithm: 'sha256', value: createHash('sha256').update(payload).digest('hex') },
      signatures: [{ signature, verifier: base64(certificate) }],
    },
  }
  const { set, received } = receive(log, body, at)
  return {
    logIndex: String(received.logIndex),
    logId: { keyId: base64(logIdOf(log)) },
    kindVersion: { kind: 'dsse', version: '0.0.1' },
    integratedTime: String(received.integratedTime),
    inclusionPromise: { signedEntryTimestamp: set },
    inclusionProof: proofOf(log, received.body),
    canonicalizedBody: received.body,
  }
}

/** Of a tree with one leaf: its root is the leaf's hash. */
const proofOf = (log: KeyPair, body: string): object => {
  const root = createHash('sha256').update(Buffer.of(0)).update(Buffer.from(body, 'base64')).digest('base64')
  const note = `log.test\n1\n${root}\n`
  const signature = Buffer.concat([logIdOf(log).subarray(0, 4), sign('sha256', Buffer.from(note), log.privateKey)])
  return {
    logIndex: '0',
    rootHash: root,
    treeSize: '1',
    hashes: [],
    checkpoint: { envelope: `${note}\n— log.test ${signature.toString('base64')}\n` },
  }
}

const documentOf = (content: object, mediaType: string, blobs: readonly Buffer[]): BuiltImage => {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...content }))
  const digest = digestOf(bytes)
  return {
    bytes,
    mediaType,
    digest,
    id: digest,
    layers: [],
    blobs: new Map(blobs.map((blob) => [digestOf(blob), blob])),
  }
}

const pointer = (mediaType: string, blob: Buffer): { mediaType: string; digest: Digest; size: number } => ({
  mediaType,
  digest: digestOf(blob),
  size: blob.length,
})

/** Where cosign keeps the signatures of an image: the tag beside it. */
export const signatureTag = (digest: Digest): string => `${digest.replace(':', '-')}.sig`

/** What lies under that tag. */
export const signatureImage = (signatures: readonly CosignSignature[]): BuiltImage => {
  const config = Buffer.from('{}')
  const payloads = signatures.map(({ payload }) => Buffer.from(payload, 'base64'))
  const layers = signatures.map(({ signature, certificate, chain, receipt }, index) => ({
    ...pointer('application/vnd.dev.cosign.simplesigning.v1+json', payloads[index] ?? Buffer.alloc(0)),
    annotations: {
      'dev.cosignproject.cosign/signature': signature,
      ...(certificate && { 'dev.sigstore.cosign/certificate': certificate }),
      ...(chain && { 'dev.sigstore.cosign/chain': chain }),
      ...(receipt && { 'dev.sigstore.cosign/bundle': receipt }),
    },
  }))
  const content = { config: pointer('application/vnd.oci.image.config.v1+json', config), layers }
  return documentOf(content, OCI_MANIFEST, [config, ...payloads])
}

const BUNDLE = 'application/vnd.dev.sigstore.bundle.v0.3+json'

/** What refers to an image: its bundles, for the tag that stands in for the registry's list. */
export const referrersOf = (subject: Digest, bundles: readonly string[]): BuiltIndex => {
  const empty = Buffer.from('{}')
  const images = bundles.map((json) => {
    const blob = Buffer.from(json)
    const config = pointer('application/vnd.oci.empty.v1+json', empty)
    const about = { mediaType: OCI_MANIFEST, digest: subject, size: 1 }
    const content = { artifactType: BUNDLE, config, layers: [pointer(BUNDLE, blob)], subject: about }
    return documentOf(content, OCI_MANIFEST, [empty, blob])
  })
  const manifests = images.map(({ bytes }) => ({ ...pointer(OCI_MANIFEST, bytes), artifactType: BUNDLE }))
  const { bytes, mediaType, digest } = documentOf({ manifests }, OCI_INDEX, [])
  return { bytes, mediaType, digest, images }
}
