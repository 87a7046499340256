/** Certificates of signers: from a leaf to a root that the policy trusts, at a given time, and who the leaf was made for. */

import { type KeyObject, X509Certificate } from 'node:crypto'
import { X509Certificate as Details } from '@sigstore/core'
import { messageOf } from '#proto/errors.ts'
import type { Signer } from '../policy/policy.ts'
import { BadSignature } from './evidence.ts'

/** A certificate as a signature brings it, and others that may lead from it to a root. PEM. */
export interface Presented {
  readonly leaf: string
  readonly chain: string
}

type CertifiedSigner = Exclude<Signer, { by: 'keys' }>

/**
 * The key of a signer that the policy wants.
 * @param at when the certificate has to have been valid
 * @throws BadSignature
 */
export const certifiedKey = (signer: CertifiedSigner, { leaf: pem, chain }: Presented, at: Date): KeyObject => {
  const leaf = onlyOne(certificatesOf(pem))
  const known = signer.by === 'pki' ? signer.intermediates : []
  leadToRoot(leaf, { roots: signer.roots, between: [...known, ...certificatesOf(chain)] }, at)
  if (signer.subjectEmail !== undefined && !isForEmail(leaf, signer.subjectEmail)) {
    throw new BadSignature(`its certificate is not for ${JSON.stringify(signer.subjectEmail)}`)
  }
  if (signer.by === 'pki') refuseOtherHost(leaf, signer.subjectHostname)
  else refuseOtherIssuer(leaf, signer.oidcIssuer)
  return leaf.publicKey
}

const onlyOne = (found: readonly X509Certificate[]): X509Certificate => {
  const [leaf] = found
  if (leaf === undefined || found.length > 1)
    throw new BadSignature(`it has ${found.length} certificates for one signer`)
  return leaf
}

const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

const certificatesOf = (pem: string): X509Certificate[] => {
  try {
    return (pem.match(PEM) ?? []).map((block) => new X509Certificate(block))
  } catch (cause) {
    throw new BadSignature(`it has a broken certificate: ${messageOf(cause)}`, { cause })
  }
}

const CODE_SIGNING = '1.3.6.1.5.5.7.3.3'
const ANY_USE = '2.5.29.37.0'
const MAX_DEPTH = 6

interface Trust {
  readonly roots: readonly X509Certificate[]
  readonly between: readonly X509Certificate[]
}

const leadToRoot = (leaf: X509Certificate, trust: Trust, at: Date): void => {
  refuseUse(leaf, at)
  if (!leads(leaf, trust, at, [leaf])) throw new BadSignature('its certificate leads to no root of the policy')
}

const leads = (from: X509Certificate, trust: Trust, at: Date, path: readonly X509Certificate[]): boolean => {
  const issuers = (all: readonly X509Certificate[]): X509Certificate[] =>
    all.filter(
      (issuer) => from.checkIssued(issuer) && isSignedBy(from, issuer) && mayIssue(issuer, path.length - 1, at),
    )
  if (issuers(trust.roots).length > 0) return true
  if (path.length > MAX_DEPTH) return false
  return issuers(trust.between)
    .filter((issuer) => !path.includes(issuer))
    .some((issuer) => leads(issuer, trust, at, [...path, issuer]))
}

const isSignedBy = (certificate: X509Certificate, issuer: X509Certificate): boolean => {
  try {
    return certificate.verify(issuer.publicKey)
  } catch {
    return false
  }
}

/** @param below how many authorities lie between it and the leaf */
const mayIssue = (issuer: X509Certificate, below: number, at: Date): boolean => {
  if (!issuer.ca) return false
  try {
    refuseUse(issuer, at)
  } catch {
    return false
  }
  const limit = detailsOf(issuer).extBasicConstraints?.pathLenConstraint
  return limit === undefined || limit >= below
}

/** Extensions that are looked at here or by Node; another critical one says something that we would not heed. */
const HEEDED = new Set(['2.5.29.15', '2.5.29.19', '2.5.29.37', '2.5.29.17', '2.5.29.14', '2.5.29.35'])

/** Out of its time, for another purpose, or with conditions that we cannot check. */
const refuseUse = (certificate: X509Certificate, at: Date): void => {
  if (at < certificate.validFromDate || at > certificate.validToDate) {
    throw new BadSignature(`its certificate was not valid at ${at.toISOString()}`)
  }
  const uses: readonly string[] | undefined = certificate.keyUsage
  if (uses !== undefined && !uses.includes(CODE_SIGNING) && !uses.includes(ANY_USE)) {
    throw new BadSignature('its certificate is not for signing code')
  }
  const unknown = detailsOf(certificate).extensions.find((each) => {
    const [oid] = each.subs
    // The boolean that makes an extension critical stands between its name and its value.
    return each.subs.length > 2 && !HEEDED.has(oid?.toOID() ?? '')
  })
  if (unknown) throw new BadSignature(`its certificate has the unknown critical extension ${unknown.subs[0]?.toOID()}`)
}

const detailsOf = (certificate: X509Certificate): Details => Details.parse(certificate.raw)

const isForEmail = (leaf: X509Certificate, email: string): boolean =>
  leaf.checkEmail(email, { subject: 'never' }) === email

const refuseOtherHost = (leaf: X509Certificate, host: string | undefined): void => {
  if (host === undefined || leaf.checkHost(host, { subject: 'never' }) !== undefined) return
  throw new BadSignature(`its certificate is not for ${JSON.stringify(host)}`)
}

/** How Fulcio says who vouched for the subject: as plain text, then as a string of ASN.1. */
const ISSUER_OLD = '1.3.6.1.4.1.57264.1.1'
const ISSUER = '1.3.6.1.4.1.57264.1.8'

const refuseOtherIssuer = (leaf: X509Certificate, wanted: string): void => {
  const details = detailsOf(leaf)
  const old = details.extension(ISSUER_OLD)?.value.toString('utf8')
  const now = details.extension(ISSUER)?.valueObj.subs[0]?.value.toString('utf8')
  const said = [old, now].filter((each) => each !== undefined)
  if (said.length > 0 && said.every((each) => each === wanted)) return
  throw new BadSignature(`its certificate was not made on the word of ${JSON.stringify(wanted)}`)
}
