/** What an operator decides about pulling images. Most of it lies in files that are read anew for every pull. */

import type { CredentialSettings } from './credentials/find-credentials.ts'
import type { ProxySettings } from './registry/proxies.ts'

export { proxiesOf } from './registry/proxies.ts'

export interface ImagesConfig {
  /** "host:port" or "host" as in image names, that need no TLS. Its content may change. */
  readonly insecureRegistries: readonly string[]
  /** containers-registries.conf; drop-ins lie in `<file>.d`. */
  readonly registriesConf: string
  /** certs.d directories, the first one first. */
  readonly certsDirs: readonly string[]
  readonly credentials: CredentialSettings
  readonly proxies: ProxySettings
}
