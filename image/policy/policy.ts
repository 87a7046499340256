/**
 * A signature policy as it is used: containers-policy.json(5) with its keys read. Plain data; which part of it speaks for
 * an image is said in match-scope.ts, whether an image satisfies it in judge-image.ts.
 */

import type { KeyObject, X509Certificate } from 'node:crypto'

/** What a signature must say that it signed. */
export type SignedIdentity =
  | { readonly type: 'matchExact' | 'matchRepoDigestOrExact' | 'matchRepository' }
  | { readonly type: 'exactReference'; readonly dockerReference: string }
  | { readonly type: 'exactRepository'; readonly dockerRepository: string }
  | { readonly type: 'remapIdentity'; readonly prefix: string; readonly signedPrefix: string }
  /** Ours: the digest alone. What cosign 3 signs holds no name. */
  | { readonly type: 'matchDigest' }

/** Who must have made a sigstore signature. */
export type Signer =
  | { readonly by: 'keys'; readonly keys: readonly KeyObject[] }
  | {
      readonly by: 'fulcio'
      readonly roots: readonly X509Certificate[]
      readonly oidcIssuer: string
      readonly subjectEmail: string
    }
  | {
      readonly by: 'pki'
      readonly roots: readonly X509Certificate[]
      readonly intermediates: readonly X509Certificate[]
      readonly subjectEmail: string | undefined
      readonly subjectHostname: string | undefined
    }

export interface SignedBy {
  readonly type: 'signedBy'
  /** OpenPGP keyrings, not armoured. */
  readonly keyrings: readonly Buffer[]
  readonly identity: SignedIdentity
}

export interface SigstoreSigned {
  readonly type: 'sigstoreSigned'
  readonly signer: Signer
  /** Of transparency logs, one of which must have the signature; none: not asked for. */
  readonly rekorKeys: readonly KeyObject[]
  readonly identity: SignedIdentity
}

export type Requirement =
  | { readonly type: 'insecureAcceptAnything' }
  | { readonly type: 'reject' }
  | SignedBy
  | SigstoreSigned

/** All of them must be satisfied; never empty. */
export type Requirements = readonly Requirement[]

export interface Policy {
  readonly default: Requirements
  /** By transport ("docker", "oci", "docker-archive", …), then by scope. */
  readonly transports: ReadonlyMap<string, ReadonlyMap<string, Requirements>>
  /** Every file that it was made from: the policy, keyrings, keys. */
  readonly files: readonly string[]
}

/** Where nobody wrote a policy. */
export const ACCEPT_ALL: Policy = {
  default: [{ type: 'insecureAcceptAnything' }],
  transports: new Map(),
  files: [],
}
