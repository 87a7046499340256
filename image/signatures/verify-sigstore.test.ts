import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { suite, test } from 'node:test'
import { digestOf } from '#storage/digest.ts'
import type { Signer, SigstoreSigned } from '../policy/policy.ts'
import { hasOpenssl } from '../testing/certificates.ts'
import { bundleOf, claimOf, type KeyPair, logged, makeKey, signClaim, statementOf } from '../testing/signer.ts'
import { SigningAuthority } from '../testing/signing-authority.ts'
import { BadSignature } from './evidence.ts'
import { verifyBundle, verifyCosign } from './verify-sigstore.ts'

const digest = digestOf('a manifest')
const claim = claimOf('quay.io/team/app', digest)

const by = (signer: Signer, ...logs: KeyPair[]): SigstoreSigned => ({
  type: 'sigstoreSigned',
  signer,
  rekorKeys: logs.map(({ publicKey }) => publicKey),
  identity: { type: 'matchRepository' },
})

const byKeys = (...keys: KeyPair[]): Signer => ({ by: 'keys', keys: keys.map(({ publicKey }) => publicKey) })

const refused = (verification: Promise<unknown>, why: RegExp): Promise<void> =>
  assert.rejects(verification, (error) => error instanceof BadSignature && why.test(error.message))

suite('a signature by a key', () => {
  const key = makeKey()
  const other = makeKey()
  const log = makeKey()
  const wanted = [{ digest, reference: 'quay.io/team/app' }]

  test('is good by any of the keys of the policy', async () => {
    assert.deepEqual(await verifyCosign(signClaim(claim, key), by(byKeys(other, key))), wanted)
    const bundle = bundleOf({ payload: statementOf(digest), key })
    assert.deepEqual(await verifyBundle(bundle, by(byKeys(key))), [{ digest, reference: undefined }])
  })

  for (const kind of ['P-256', 'RSA', 'Ed25519'] as const) {
    test(`may be made by ${kind}, in both forms`, async () => {
      const [mine, another] = [makeKey(kind), makeKey(kind)]
      assert.deepEqual(await verifyCosign(signClaim(claim, mine), by(byKeys(another, mine))), wanted)
      await refused(verifyCosign(signClaim(claim, mine), by(byKeys(another))), /no key of the policy/)
      const payload = claimOf('quay.io/team/app', digestOf('another')).toString('base64')
      await refused(verifyCosign({ ...signClaim(claim, mine), payload }, by(byKeys(mine))), /no key of the policy/)
      const bundle = bundleOf({ payload: statementOf(digest), key: mine })
      assert.deepEqual(await verifyBundle(bundle, by(byKeys(mine))), [{ digest, reference: undefined }])
      await refused(verifyBundle(bundle, by(byKeys(another))), /no key of the policy/)
    })
  }

  test('is none the worse for timestamps that no policy can speak of', async () => {
    const bundle: { verificationMaterial: object } = JSON.parse(bundleOf({ payload: statementOf(digest), key, log }))
    const timestampVerificationData = {
      rfc3161Timestamps: [{ signedTimestamp: Buffer.from('any').toString('base64') }],
    }
    const stamped = { ...bundle, verificationMaterial: { ...bundle.verificationMaterial, timestampVerificationData } }
    const claims = await verifyBundle(JSON.stringify(stamped), by(byKeys(key), log))
    assert.deepEqual(claims, [{ digest, reference: undefined }])
  })

  test('is bad by another key, or for other bytes', async () => {
    await refused(verifyCosign(signClaim(claim, key), by(byKeys(other))), /no key of the policy/)
    const payload = claimOf('quay.io/team/app', digestOf('another')).toString('base64')
    await refused(verifyCosign({ ...signClaim(claim, key), payload }, by(byKeys(key))), /no key of the policy/)
    await refused(verifyBundle(bundleOf({ payload: statementOf(digest), key }), by(byKeys(other))), /no key/)
  })

  test('must be in the log where the policy wants it, and the receipt be of that log and this signature', async () => {
    const policy = by(byKeys(key), log)
    const signature = signClaim(claim, key)
    assert.deepEqual(await verifyCosign(logged(signature, log, key.pem), policy), wanted)
    assert.deepEqual(await verifyCosign(logged(signature, log, key.pem), by(byKeys(key), other, log)), wanted)
    await refused(verifyCosign(signature, policy), /expected 1 tlog/)
    await refused(verifyCosign(logged(signature, other, key.pem), policy), /inclusion promise/)
    const { receipt = '' } = logged(signClaim(claimOf('x.test/y', digest), key), log, key.pem)
    await refused(verifyCosign({ ...signature, receipt }, policy), /mismatch/)
    await refused(verifyCosign({ ...signature, receipt: '{}' }, policy), /receipt of a log/)
  })

  test('in a bundle is proved by the receipt of the log, and by the proof that the log has it', async () => {
    const bundle = bundleOf({ payload: statementOf(digest), key, log })
    assert.deepEqual(await verifyBundle(bundle, by(byKeys(key), log)), [{ digest, reference: undefined }])
    await refused(verifyBundle(bundle, by(byKeys(key), other)), /inclusion promise/)
    const otherPlace = bundle.replace('"inclusionProof":{"logIndex":"0"', '"inclusionProof":{"logIndex":"1"')
    await refused(verifyBundle(otherPlace, by(byKeys(key), log)), /index|inclusion/)
    const otherRoot = bundle.replace('log.test\\n1\\n', 'log.test\\n1\\nAAAA')
    await refused(verifyBundle(otherRoot, by(byKeys(key), log)), /checkpoint signature/)
    const named = bundleOf({ payload: statementOf(digest, { name: 'quay.io/team/app' }), key, log })
    assert.deepEqual(await verifyBundle(named, by(byKeys(key), log)), [{ digest, reference: 'quay.io/team/app' }])
  })

  test('over something else than consent is none', async () => {
    const provenance = statementOf(digest, { predicateType: 'https://slsa.dev/provenance/v1' })
    await refused(verifyBundle(bundleOf({ payload: provenance, key }), by(byKeys(key))), /no consent/)
    const otherType = claimOf('quay.io/team/app', digest, 'atomic container signature')
    await refused(verifyCosign(signClaim(otherType, key), by(byKeys(key))), /no consent/)
    await refused(verifyBundle('{', by(byKeys(key))), /no JSON/)
    await refused(verifyBundle('{}', by(byKeys(key))), /no sigstore bundle/)
  })
})

suite('a signature by a certificate', { skip: !hasOpenssl() && 'host lacks openssl' }, () => {
  const issuer = 'https://accounts.example.test'
  const email = 'me@example.test'

  test('of Fulcio counts for the one it was made for, at the time of the log, by the root of the policy', async () => {
    await using authority = await SigningAuthority.make()
    const between = await authority.below('between')
    const [key, log] = [makeKey(), makeKey()]
    const certificate = await between.certify(key, { san: `email:${email}`, issuer })
    // Logs count in seconds, and the certificate begins in this one at the latest.
    const now = new Date()
    const roots = [new X509Certificate(authority.certificate)]
    const signer: Signer = { by: 'fulcio', roots, oidcIssuer: issuer, subjectEmail: email }
    const signature = {
      ...logged(signClaim(claim, key), log, certificate, now),
      certificate,
      chain: between.certificate,
    }

    assert.deepEqual(await verifyCosign(signature, by(signer, log)), [{ digest, reference: 'quay.io/team/app' }])
    const direct = await authority.certify(key, { san: `email:${email}`, issuer })
    const bundle = bundleOf({ payload: statementOf(digest), key, certificate: direct, log })
    assert.deepEqual(await verifyBundle(bundle, by(signer, log)), [{ digest, reference: undefined }])

    await refused(verifyCosign(signature, by({ ...signer, subjectEmail: 'you@example.test' }, log)), /not for "you@/)
    await refused(verifyCosign(signature, by({ ...signer, oidcIssuer: 'https://x.test' }, log)), /word of "https:\/\/x/)
    await refused(verifyCosign({ ...signature, chain: '' }, by(signer, log)), /leads to no root/)
    const { receipt: _, ...unlogged } = signature
    await refused(verifyCosign(unlogged, by(signer, log)), /no receipt/)
    await refused(verifyCosign(signature, by(signer, makeKey())), /inclusion promise/)
    const late = logged(signClaim(claim, key), log, certificate, new Date(now.getTime() + 9 * 86_400_000))
    await refused(verifyCosign({ ...signature, receipt: late.receipt }, by(signer, log)), /not valid at/)
    await using stranger = await SigningAuthority.make()
    const elsewhere: Signer = { ...signer, roots: [new X509Certificate(stranger.certificate)] }
    await refused(verifyCosign(signature, by(elsewhere, log)), /leads to no root/)
    const anotherKey = { ...signature, ...logged(signClaim(claim, makeKey()), log, certificate, now) }
    await refused(verifyCosign(anotherKey, by(signer, log)), /no key of the policy/)
  })

  test('without the word of who vouched for the signer is none of Fulcio', async () => {
    await using authority = await SigningAuthority.make()
    const [key, log] = [makeKey(), makeKey()]
    const certificate = await authority.certify(key, { san: `email:${email}` })
    const roots = [new X509Certificate(authority.certificate)]
    const signer: Signer = { by: 'fulcio', roots, oidcIssuer: issuer, subjectEmail: email }
    const signature = { ...logged(signClaim(claim, key), log, certificate), certificate }
    await refused(verifyCosign(signature, by(signer, log)), /not made on the word/)
  })

  test('of an authority of one’s own needs no log, and counts while it is valid, for signing, from an authority', async () => {
    await using authority = await SigningAuthority.make()
    const key = makeKey()
    const roots = [new X509Certificate(authority.certificate)]
    const signer = { by: 'pki', roots, intermediates: [], subjectEmail: undefined, subjectHostname: 'ci.test' } as const
    const signedWith = (certificate: string, chain = '') => ({ ...signClaim(claim, key), certificate, chain })
    const good = await authority.certify(key, { san: 'DNS:ci.test' })
    assert.equal((await verifyCosign(signedWith(good), by(signer))).length, 1)
    await refused(verifyCosign(signedWith(good), by({ ...signer, subjectHostname: 'cd.test' })), /not for "cd.test"/)
    await refused(verifyCosign(signClaim(claim, key), by(signer)), /no certificate/)

    const server = await authority.certify(key, { san: 'DNS:ci.test', uses: 'serverAuth' })
    await refused(verifyCosign(signedWith(server), by(signer)), /not for signing code/)
    const strange = await authority.certify(key, { san: 'DNS:ci.test', more: '1.2.3.4=critical,ASN1:NULL' })
    await refused(verifyCosign(signedWith(strange), by(signer)), /unknown critical extension 1\.2\.3\.4/)

    // Of the same name, and not signed by it.
    await using namesake = await SigningAuthority.make()
    const unsigned = await namesake.certify(key, { san: 'DNS:ci.test', more: 'authorityKeyIdentifier=none' })
    await refused(verifyCosign(signedWith(unsigned), by(signer)), /leads to no root/)

    // A signer is no authority, and authorities keep to what their own allow.
    const noAuthority = await authority.below('none', 'basicConstraints=critical,CA:FALSE\n')
    const forged = await noAuthority.certify(key, { san: 'DNS:ci.test' })
    await refused(verifyCosign(signedWith(forged, noAuthority.certificate), by(signer)), /leads to no root/)
    const last = await authority.below('last', 'basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=keyCertSign\n')
    const tooDeep = await last.below('deep')
    const deep = await tooDeep.certify(key, { san: 'DNS:ci.test' })
    const chain = `${tooDeep.certificate}${last.certificate}`
    await refused(verifyCosign(signedWith(deep, chain), by(signer)), /leads to no root/)
    const fine = await last.certify(key, { san: 'DNS:ci.test' })
    assert.equal((await verifyCosign(signedWith(fine, chain), by(signer))).length, 1)
  })
})
