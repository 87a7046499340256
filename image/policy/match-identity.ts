/** Whether what a signature says that it signed fits the image that is asked for (containers-policy.json(5), signedIdentity). */

import { canonical, type ImageReference, parseReference, repositoryOf } from '../reference.ts'
import type { SignedIdentity } from './policy.ts'

/**
 * @param signed the name in the signature, "docker.io/library/busybox:latest", a repository alone, or nothing
 * @param asked the name that the image was asked for by
 */
export const identityMatches = (rule: SignedIdentity, signed: string | undefined, asked: ImageReference): boolean => {
  if (rule.type === 'matchDigest') return true
  if (signed === undefined || signed === '') return false
  const claim = readName(signed)
  if (claim === undefined) return false
  switch (rule.type) {
    case 'matchExact':
      return isExact(claim, asked)
    case 'matchRepository':
      return repositoryOf(claim.reference) === repositoryOf(asked)
    case 'matchRepoDigestOrExact':
      return repoDigestOrExact(claim, asked)
    case 'exactReference': {
      const wanted = readName(rule.dockerReference)
      return wanted?.isWhole === true && isExact(claim, wanted.reference)
    }
    case 'exactRepository': {
      const wanted = readName(rule.dockerRepository)
      return wanted !== undefined && repositoryOf(claim.reference) === repositoryOf(wanted.reference)
    }
    case 'remapIdentity': {
      const wanted = remapped(asked, rule.prefix, rule.signedPrefix)
      return wanted !== undefined && repoDigestOrExact(claim, wanted)
    }
  }
}

interface Claim {
  readonly reference: ImageReference
  /** Whether it has a tag or digest of its own: a repository alone is no image. */
  readonly isWhole: boolean
}

const readName = (text: string): Claim | undefined => {
  try {
    const reference = parseReference(text)
    const name = text.slice(text.lastIndexOf('/') + 1)
    return { reference, isWhole: name.includes(':') || name.includes('@') }
  } catch {
    return undefined
  }
}

const isExact = ({ reference, isWhole }: Claim, asked: ImageReference): boolean =>
  isWhole && canonical(reference) === canonical(asked)

/** A digest has been compared already; then the tag that was signed does not count. */
const repoDigestOrExact = (claim: Claim, asked: ImageReference): boolean =>
  asked.digest === undefined ? isExact(claim, asked) : repositoryOf(claim.reference) === repositoryOf(asked)

/** At borders of names only: the prefix "quay.io/team" is none of "quay.io/teams/app". */
const remapped = (asked: ImageReference, prefix: string, signedPrefix: string): ImageReference | undefined => {
  const repository = repositoryOf(asked)
  if (repository !== prefix && !repository.startsWith(`${prefix}/`)) return asked
  const name = readName(`${signedPrefix}${repository.slice(prefix.length)}`)?.reference
  return name && { ...asked, domain: name.domain, path: name.path }
}
