/** What was signed, out of bytes whose signature has been found good: the claims of simple signing, and in-toto statements. */

import * as z from 'zod'
import { messageOf } from '#proto/errors.ts'
import { parseStrictJson } from '../strict-json.ts'
import { BadSignature, type Claim } from './evidence.ts'

const claimFields = (type: string) =>
  z.object({
    critical: z.strictObject({
      type: z.literal(type),
      image: z.strictObject({ 'docker-manifest-digest': z.string().max(200) }),
      identity: z.strictObject({ 'docker-reference': z.string().max(1024) }),
    }),
  })

const forms = {
  simple: claimFields('atomic container signature'),
  cosign: claimFields('cosign container image signature'),
}

/** @throws BadSignature when it is no claim of this form: a signature for one purpose must not do for another */
export const readClaim = (bytes: Uint8Array, form: keyof typeof forms): Claim => {
  const { critical } = parse(forms[form], bytes)
  return { digest: critical.image['docker-manifest-digest'], reference: critical.identity['docker-reference'] }
}

/** What `cosign sign` says. Other statements about an image (how it was built, what is in it) are no consent to run it. */
const SIGN_PREDICATE = 'https://sigstore.dev/cosign/sign/v1'

const statementFields = z.object({
  _type: z.string().startsWith('https://in-toto.io/Statement/'),
  predicateType: z.literal(SIGN_PREDICATE),
  subject: z
    .array(z.object({ name: z.string().max(1024).optional(), digest: z.record(z.string(), z.string().max(200)) }))
    .min(1)
    .max(100),
})

/** One claim for each subject. @throws BadSignature when it is no statement of `cosign sign` */
export const readStatement = (bytes: Uint8Array): Claim[] =>
  parse(statementFields, bytes).subject.flatMap(({ name, digest }) =>
    Object.entries(digest).map(([algorithm, hex]) => ({ digest: `${algorithm}:${hex}`, reference: name || undefined })),
  )

const parse = <T extends z.ZodType>(fields: T, bytes: Uint8Array): z.output<T> => {
  try {
    return fields.parse(parseStrictJson(bytes, 'what was signed'))
  } catch (cause) {
    const why = cause instanceof z.ZodError ? 'has not the fields of one' : messageOf(cause)
    throw new BadSignature(`what was signed is no consent to an image: ${why}`, { cause })
  }
}
