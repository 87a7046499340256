/** What an operator decides about pulling images. Most of it lies in files that are read anew for every pull. */

import type { CredentialSettings } from './credentials/find-credentials.ts'
import type { ProxySettings } from './registry/proxies.ts'
import type { VerifierSettings } from './verifiers/run-verifiers.ts'

export { proxiesOf } from './registry/proxies.ts'

export interface ImagesConfig {
  /** "host:port" or "host" as in image names, that need no TLS. Its content may change. */
  readonly insecureRegistries: readonly string[]
  /** Hosts that token services may be at, beside their registry's own. Not set: anywhere that is beyond suspicion. */
  readonly tokenServices: readonly string[] | undefined
  /** containers-registries.conf; drop-ins lie in `<file>.d`. */
  readonly registriesConf: string
  /** certs.d directories, the first one first. */
  readonly certsDirs: readonly string[]
  readonly credentials: CredentialSettings
  /** When a blob is fetched over several connections at once, and over how many at most. */
  readonly parts: { readonly connections: number; readonly fromBytes: number }
  readonly proxies: ProxySettings
  readonly signatures: SignatureSettings
  /** Private keys for encrypted layers, one file each. May be absent. */
  readonly decryptionKeysDir: string
  /** Names of images that are never offered for garbage collection; "*" at both ends stands for anything. */
  readonly pinned: readonly string[]
}

/** By what it is decided which images may come here and run. */
export interface SignatureSettings {
  /** containers-policy.json. Not set: `usualPolicyFile` if it is there, otherwise everything is accepted. */
  readonly policyFile: string | undefined
  readonly usualPolicyFile: string | undefined
  /** `<namespace>.json` in place of it for the images of a namespace. */
  readonly policyDir: string | undefined
  /** containers-registries.d: where OpenPGP signatures lie. May be absent. */
  readonly placesDir: string
  readonly verifiers: VerifierSettings
}
