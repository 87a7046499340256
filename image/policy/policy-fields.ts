/** The shape of containers-policy.json(5), before any key is read. Unknown fields are refused: a misspelt one must not weaken a policy. */

import * as z from 'zod'

const base64 = z.base64({ error: 'must be base64' }).min(1)
const file = z.string().startsWith('/', { error: 'must be an absolute path' })
const files = z.array(file).min(1)

const signedIdentity = z.discriminatedUnion('type', [
  z.strictObject({ type: z.enum(['matchExact', 'matchRepoDigestOrExact', 'matchRepository', 'matchDigest']) }),
  z.strictObject({ type: z.literal('exactReference'), dockerReference: z.string().min(1) }),
  z.strictObject({ type: z.literal('exactRepository'), dockerRepository: z.string().min(1) }),
  z.strictObject({ type: z.literal('remapIdentity'), prefix: z.string().min(1), signedPrefix: z.string().min(1) }),
])

const identity = signedIdentity.default({ type: 'matchRepoDigestOrExact' })

/** Exactly one of these names. */
const oneOf = (names: readonly string[]) => (value: object) =>
  names.filter((name) => Reflect.get(value, name) !== undefined).length === 1

const atMostOneOf = (names: readonly string[]) => (value: object) =>
  names.filter((name) => Reflect.get(value, name) !== undefined).length <= 1

const KEYS = ['keyPath', 'keyPaths', 'keyData', 'keyDatas']
const keys = {
  keyPath: file.optional(),
  keyPaths: files.optional(),
  keyData: base64.optional(),
  keyDatas: z.array(base64).min(1).optional(),
}

const signedBy = z
  .strictObject({ type: z.literal('signedBy'), keyType: z.literal('GPGKeys'), ...keys, signedIdentity: identity })
  .refine(oneOf(KEYS), { error: `must have exactly one of ${KEYS.join(', ')}` })

const fulcio = z
  .strictObject({
    caPath: file.optional(),
    caData: base64.optional(),
    oidcIssuer: z.string().min(1),
    subjectEmail: z.string().min(1),
  })
  .refine(oneOf(['caPath', 'caData']), { error: 'must have exactly one of caPath, caData' })

const pki = z
  .strictObject({
    caRootsPath: file.optional(),
    caRootsData: base64.optional(),
    caIntermediatesPath: file.optional(),
    caIntermediatesData: base64.optional(),
    subjectEmail: z.string().min(1).optional(),
    subjectHostname: z.string().min(1).optional(),
  })
  .refine(oneOf(['caRootsPath', 'caRootsData']), { error: 'must have exactly one of caRootsPath, caRootsData' })
  .refine(atMostOneOf(['caIntermediatesPath', 'caIntermediatesData']), {
    error: 'must not have both caIntermediatesPath and caIntermediatesData',
  })
  .refine(({ subjectEmail, subjectHostname }) => subjectEmail !== undefined || subjectHostname !== undefined, {
    error: 'must have subjectEmail or subjectHostname',
  })

const SIGNERS = [...KEYS, 'fulcio', 'pki']
const REKOR = ['rekorPublicKeyPath', 'rekorPublicKeyPaths', 'rekorPublicKeyData', 'rekorPublicKeyDatas']

const sigstoreSigned = z
  .strictObject({
    type: z.literal('sigstoreSigned'),
    ...keys,
    fulcio: fulcio.optional(),
    pki: pki.optional(),
    rekorPublicKeyPath: file.optional(),
    rekorPublicKeyPaths: files.optional(),
    rekorPublicKeyData: base64.optional(),
    rekorPublicKeyDatas: z.array(base64).min(1).optional(),
    signedIdentity: identity,
  })
  .refine(oneOf(SIGNERS), { error: `must have exactly one of ${SIGNERS.join(', ')}` })
  .refine(atMostOneOf(REKOR), { error: `must have at most one of ${REKOR.join(', ')}` })
  .refine((value) => value.fulcio === undefined || oneOf(REKOR)(value), {
    error: `must have one of ${REKOR.join(', ')}, as it has fulcio`,
  })

const requirement = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('insecureAcceptAnything') }),
  z.strictObject({ type: z.literal('reject') }),
  signedBy,
  sigstoreSigned,
])

const requirements = z.array(requirement).min(1, { error: 'must not be empty' })

export const policyFields = z.strictObject({
  default: requirements,
  transports: z.record(z.string(), z.record(z.string(), requirements)).default({}),
})

export type RequirementFields = z.output<typeof requirement>
export type SigstoreFields = z.output<typeof sigstoreSigned>
