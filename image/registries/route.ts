/**
 * The one model behind both dialects of registry configuration: where a reference is fetched, in order, and how each of
 * these servers is to be spoken to. Plain data; nothing here asks the network or the disk.
 */

/** How the other side proves who it is, and we to it. Paths of PEM files. */
export interface TlsFiles {
  /** Authorities that count beside those of the system. */
  readonly ca: readonly string[]
  readonly clients: readonly ClientPair[]
  /** Any certificate is good. */
  readonly skipVerify: boolean
}

export interface ClientPair {
  readonly cert: string
  /** The same file when it holds both. */
  readonly key: string
}

export interface Endpoint {
  /** Host and port as people write them: "docker.io", "mirror.example:5000". Names credentials. */
  readonly name: string
  /** Scheme, host and port to talk to: "https://registry-1.docker.io". */
  readonly origin: string
  /** Path before the repository, usually "/v2". */
  readonly prefix: string
  /** "library/busybox"; rules may rewrite it. */
  readonly repository: string
  /** Whether it stands in for the registry that the reference names. */
  readonly isMirror: boolean
  /** The same place without TLS: asked only when the one before it does not speak TLS. */
  readonly isPlainTwin: boolean
  /** Whether it may say what a tag means. */
  readonly resolvesTags: boolean
  /** Whether it may give content by digest. */
  readonly servesDigests: boolean
  /** Tells a mirror for whom it stands in (`?ns=`). */
  readonly upstream?: string
  /** Sent with every request to it, never elsewhere; values can be secret. */
  readonly headers: Readonly<Record<string, string>>
  readonly tls: TlsFiles
  readonly dialTimeoutMs?: number
}

export interface Route {
  /** Why these: 'registries.conf: prefix "docker.io" in "/etc/…"'. */
  readonly rule: string
  /** In the order in which they are asked; never empty. */
  readonly endpoints: readonly Endpoint[]
  /** What else would have spoken for this reference, and was not heard. */
  readonly passedOver: readonly string[]
}
