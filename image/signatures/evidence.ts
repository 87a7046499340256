/** What speaks for an image: signatures as they were found, kept so that they can be judged again without asking anybody. */

import * as z from 'zod'

const base64 = z.base64()

export const evidenceField = z.discriminatedUnion('kind', [
  /** An OpenPGP message around a claim (containers-signature(5)). */
  z.object({ kind: z.literal('simple'), message: base64 }),
  /** cosign's first form: claim and signature, with the certificate and the log's receipt as annotations. */
  z.object({
    kind: z.literal('cosign'),
    payload: base64,
    signature: base64,
    certificate: z.string().optional(),
    chain: z.string().optional(),
    /** JSON. */
    receipt: z.string().optional(),
  }),
  /** A sigstore bundle, JSON. */
  z.object({ kind: z.literal('bundle'), json: z.string() }),
])

export type Evidence = Readonly<z.infer<typeof evidenceField>>
export type CosignSignature = Extract<Evidence, { kind: 'cosign' }>

/** Of one image; who attaches more cannot fill our disk. */
export const MAX_SIGNATURES = 64
export const MAX_SIGNATURE_BYTES = 256 * 1024

/** What is wrong with one signature; another one may be good. */
export class BadSignature extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'BadSignature'
  }
}

/** What a signature that is good says it signed. */
export interface Claim {
  /** Digest of a manifest or index. */
  readonly digest: string
  /** The name that was signed with it, if any. */
  readonly reference: string | undefined
}
