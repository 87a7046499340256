/** Which security profile a request asks for: the typed field wins over the deprecated string. */
import { type SecurityProfile, SecurityProfile_ProfileType } from '#proto/generated/api.ts'
import { hasControlCharacters, invalid, quoted } from './refuse.ts'

export type ProfileChoice =
  | { readonly kind: 'unset' }
  | { readonly kind: 'unconfined' }
  | { readonly kind: 'runtime-default' }
  | { readonly kind: 'localhost'; readonly ref: string }

/**
 * @param field named in errors
 * @param deprecated "", "unconfined", "runtime/default", "docker/default" or "localhost/<ref>"
 * @throws RuntimeError invalid-argument; a Localhost profile without a name never means unconfined (CVE-2023-2431)
 */
export const profileChoice = (
  field: string,
  profile: SecurityProfile | undefined,
  deprecated: string,
): ProfileChoice => (profile ? fromMessage(field, profile) : fromString(field, deprecated))

const fromMessage = (field: string, { profileType, localhostRef }: SecurityProfile): ProfileChoice => {
  switch (profileType) {
    case SecurityProfile_ProfileType.RuntimeDefault:
      return { kind: 'runtime-default' }
    case SecurityProfile_ProfileType.Unconfined:
      return { kind: 'unconfined' }
    case SecurityProfile_ProfileType.Localhost:
      return localhost(field, localhostRef)
    default:
      throw invalid(`${field}.profile_type ${profileType} is unknown`)
  }
}

const fromString = (field: string, text: string): ProfileChoice => {
  if (text === '') return { kind: 'unset' }
  if (text === 'unconfined') return { kind: 'unconfined' }
  if (text === 'runtime/default' || text === 'docker/default') return { kind: 'runtime-default' }
  if (text.startsWith('localhost/')) return localhost(field, text.slice('localhost/'.length))
  throw invalid(`${field} has the profile ${quoted(text)}, which is not known`)
}

/** The kubelet's old spelling may be in the new field too. */
const localhost = (field: string, text: string): ProfileChoice => {
  const ref = text.startsWith('localhost/') ? text.slice('localhost/'.length) : text
  if (ref === '') throw invalid(`${field} is a Localhost profile without a name`)
  if (hasControlCharacters(ref)) throw invalid(`${field} ${quoted(ref)} holds control characters`)
  return { kind: 'localhost', ref }
}
