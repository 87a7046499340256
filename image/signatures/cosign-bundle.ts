/** cosign's first form of a signature as a sigstore bundle, so that both are verified by the same means. */

import { createHash } from 'node:crypto'
import type { SerializedBundle } from '@sigstore/bundle'
import * as z from 'zod'
import { BadSignature, type CosignSignature } from './evidence.ts'

/** The annotation dev.sigstore.cosign/bundle. */
const receiptFields = z.object({
  SignedEntryTimestamp: z.base64(),
  Payload: z.object({
    body: z.base64(),
    integratedTime: z.int().min(0),
    logIndex: z.int().min(0),
    logID: z.string().regex(/^[0-9a-f]{64}$/),
  }),
})

const kindFields = z.object({ kind: z.string(), apiVersion: z.string() })

/** @throws BadSignature when the receipt is broken */
export const asBundle = ({ payload, signature, receipt }: CosignSignature): SerializedBundle => ({
  mediaType: 'application/vnd.dev.sigstore.bundle+json;version=0.1',
  verificationMaterial: {
    // Who made it is said beside it, and decided by the policy.
    publicKey: { hint: '' },
    x509CertificateChain: undefined,
    certificate: undefined,
    tlogEntries: receipt === undefined ? [] : [entryOf(receipt)],
    timestampVerificationData: undefined,
  },
  messageSignature: {
    messageDigest: {
      algorithm: 'SHA2_256',
      digest: createHash('sha256').update(Buffer.from(payload, 'base64')).digest('base64'),
    },
    signature,
  },
  dsseEnvelope: undefined,
})

type Entry = SerializedBundle['verificationMaterial']['tlogEntries'][number]

const entryOf = (receipt: string): Entry => {
  try {
    const { SignedEntryTimestamp, Payload } = receiptFields.parse(JSON.parse(receipt))
    const { kind, apiVersion } = kindFields.parse(JSON.parse(Buffer.from(Payload.body, 'base64').toString('utf8')))
    return {
      logIndex: String(Payload.logIndex),
      logId: { keyId: Buffer.from(Payload.logID, 'hex').toString('base64') },
      kindVersion: { kind, version: apiVersion },
      integratedTime: String(Payload.integratedTime),
      inclusionPromise: { signedEntryTimestamp: SignedEntryTimestamp },
      inclusionProof: undefined,
      canonicalizedBody: Payload.body,
    }
  } catch (cause) {
    throw new BadSignature('it has a receipt of a log that cannot be read', { cause })
  }
}
