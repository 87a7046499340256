/** Whether the signatures that were found for an image are what a policy wants. Asks no network, so that it can be asked again at any time. */

import { messageOf } from '#proto/errors.ts'
import type { ImageReference } from '../reference.ts'
import { readClaim } from '../signatures/claim.ts'
import { BadSignature, type Claim, type Evidence } from '../signatures/evidence.ts'
import { verifyOpenpgp } from '../signatures/verify-openpgp.ts'
import { identityMatches } from './match-identity.ts'
import type { Requirement, Requirements, SignedBy, SigstoreSigned } from './policy.ts'

export interface Candidate {
  /** The name that it was asked for by. */
  readonly reference: ImageReference
  /** Of the documents that lead to it: what is signed may be its manifest, or the index that lists it. */
  readonly digests: readonly string[]
  readonly evidence: readonly Evidence[]
}

/** @returns why the image is refused; nothing when it satisfies all of them */
export const judgeImage = async (
  requirements: Requirements,
  candidate: Candidate,
  signal?: AbortSignal,
): Promise<string | undefined> => {
  for (const requirement of requirements) {
    const why = await judge(requirement, candidate, signal)
    if (why !== undefined) return why
  }
  return undefined
}

/** Whether signatures have anything to say about these. */
export const needSignatures = (requirements: Requirements): boolean => requirements.some(isAboutSignatures)

const isAboutSignatures = (requirement: Requirement): requirement is SignedBy | SigstoreSigned =>
  requirement.type === 'signedBy' || requirement.type === 'sigstoreSigned'

const judge = async (
  requirement: Requirement,
  candidate: Candidate,
  signal: AbortSignal | undefined,
): Promise<string | undefined> => {
  if (requirement.type === 'insecureAcceptAnything') return undefined
  if (requirement.type === 'reject') return 'the policy rejects it'
  const faults: string[] = []
  for (const evidence of candidate.evidence) {
    if ((evidence.kind === 'simple') !== (requirement.type === 'signedBy')) continue
    const fault = await faultOf(requirement, candidate, evidence, signal)
    if (fault === undefined) return undefined
    faults.push(fault)
  }
  if (faults.length === 0) return `it needs a signature (${requirement.type}), and there is none`
  return `none of its ${faults.length} signatures is good (${requirement.type}): ${[...new Set(faults)].slice(0, 3).join('; ')}`
}

const faultOf = async (
  requirement: SignedBy | SigstoreSigned,
  { reference, digests }: Candidate,
  evidence: Evidence,
  signal: AbortSignal | undefined,
): Promise<string | undefined> => {
  try {
    const claims = await claimsOf(requirement, evidence, signal)
    const about = claims.filter(({ digest }) => digests.includes(digest))
    if (about.length === 0) return 'it is for another image'
    if (about.some((claim) => identityMatches(requirement.identity, claim.reference, reference))) return undefined
    const names = about.map((claim) => JSON.stringify(claim.reference?.slice(0, 200) ?? 'no name'))
    return `it is for ${names.join(', ')}, which is not what ${requirement.identity.type} wants`
  } catch (error) {
    if (error instanceof BadSignature) return messageOf(error)
    throw error
  }
}

const claimsOf = async (
  requirement: SignedBy | SigstoreSigned,
  evidence: Evidence,
  signal: AbortSignal | undefined,
): Promise<readonly Claim[]> => {
  if (requirement.type === 'signedBy') {
    if (evidence.kind !== 'simple') return []
    const message = Buffer.from(evidence.message, 'base64')
    return [readClaim(await verifyOpenpgp(message, requirement.keyrings, signal), 'simple')]
  }
  // Loads libraries that most nodes never need.
  const { verifyBundle, verifyCosign } = await import('../signatures/verify-sigstore.ts')
  if (evidence.kind === 'cosign') return verifyCosign(evidence, requirement)
  return evidence.kind === 'bundle' ? verifyBundle(evidence.json, requirement) : []
}
