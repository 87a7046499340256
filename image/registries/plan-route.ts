/**
 * From a reference to the servers that are asked for it, out of everything that is configured. Exactly one dialect
 * decides about a reference: registries.conf where a [[registry]] matches, else hosts.toml, else nobody did and it is the
 * registry itself (docs/decisions/0010-two-registry-dialects.md).
 */

import type { ImageReference } from '../reference.ts'
import { isListed, isLoopback, serverOf } from '../registry/hosts.ts'
import { hostsTomlDir, hostTlsFiles } from './host-files.ts'
import { type HostEntry, type HostsToml, readHostsToml } from './hosts-toml.ts'
import { matchRegistry, type Place, placesOf } from './match-registry.ts'
import type { ConfRegistry, RegistriesConf } from './registries-conf.ts'
import type { Endpoint, Route, TlsFiles } from './route.ts'

export interface RouteSources {
  readonly conf: RegistriesConf
  /** Directories of certs.d, the first one first. */
  readonly certsDirs: readonly string[]
  /** "host:port" or "host" that may be spoken to without TLS, or with a certificate nobody vouches for. */
  readonly insecureRegistries: readonly string[]
  /** Reads a hosts.toml; given, so that a broken one can be replaced by what it was before. */
  readonly readHosts?: (dir: string) => HostsToml
}

/**
 * @throws RuntimeError permission-denied when the reference is blocked; failed-precondition when configuration is broken
 */
export const planRoute = (sources: RouteSources, reference: ImageReference): Route => {
  const { conf, certsDirs, readHosts = readHostsToml } = sources
  const registry = matchRegistry(conf, reference)
  const dir = hostsTomlDir(certsDirs, reference.domain)
  if (registry) return confRoute(sources, registry, reference, dir)
  if (dir !== undefined) return tomlRoute(sources, readHosts(dir), reference)
  const place = { reference, insecure: false, isMirror: false }
  return { rule: 'nothing is configured for it', endpoints: endpointsAt(sources, place, true), passedOver: [] }
}

const confRoute = (
  sources: RouteSources,
  registry: ConfRegistry,
  reference: ImageReference,
  dir: string | undefined,
): Route => ({
  rule: `prefix "${registry.prefix}" in "${registry.file}"`,
  endpoints: placesOf(registry, reference).flatMap((place) => endpointsAt(sources, place, false)),
  passedOver: dir === undefined ? [] : [`"${dir}/hosts.toml"`],
})

/**
 * The servers at one place. What may be insecure is asked by TLS first, whoever answers; only who does not speak TLS at
 * all is asked in the clear.
 */
const endpointsAt = (sources: RouteSources, place: Place, isDefault: boolean): Endpoint[] => {
  const { domain, path } = place.reference
  const files = hostTlsFiles(sources.certsDirs, domain)
  const endpoint = (scheme: 'http' | 'https', tls: TlsFiles): Endpoint => ({
    name: domain,
    origin: new URL(`${scheme}://${serverOf(domain)}`).origin,
    prefix: '/v2',
    repository: path,
    isMirror: place.isMirror,
    resolvesTags: true,
    servesDigests: true,
    isPlainTwin: false,
    headers: {},
    tls,
  })
  const insecure = place.insecure || isListed(domain, sources.insecureRegistries)
  const hasFiles = files.ca.length > 0 || files.clients.length > 0
  if (isLoopback(domain) && !hasFiles && (isDefault || insecure)) return [endpoint('http', files)]
  if (!insecure) return [endpoint('https', files)]
  return [endpoint('https', { ...files, skipVerify: true }), { ...endpoint('http', files), isPlainTwin: true }]
}

const tomlRoute = (sources: RouteSources, { file, hosts }: HostsToml, reference: ImageReference): Route => ({
  rule: `"${file}"`,
  endpoints: hosts.flatMap((host) => tomlEndpoints(sources, host, reference)),
  passedOver: [],
})

const tomlEndpoints = (sources: RouteSources, host: HostEntry, reference: ImageReference): Endpoint[] => {
  const common = { resolvesTags: host.resolves, servesDigests: host.pulls, headers: host.headers }
  const dial = host.dialTimeoutMs === undefined ? {} : { dialTimeoutMs: host.dialTimeoutMs }
  if (host.address === undefined) {
    const place = { reference, insecure: false, isMirror: false }
    return endpointsAt(sources, place, !speaksTls(host)).map((endpoint) => ({
      ...endpoint,
      ...common,
      ...dial,
      tls: mergeTls(endpoint.tls, host.tls),
    }))
  }
  const url = new URL(/^https?:\/\//.test(host.address) ? host.address : `https://${host.address}`)
  const name = url.host
  const isSelf = url.host === serverOf(reference.domain) || name === reference.domain
  return [
    {
      name: isSelf ? reference.domain : name,
      origin: url.origin,
      prefix: prefixOf(url.pathname, host.overridePath),
      repository: reference.path,
      isMirror: !isSelf,
      isPlainTwin: false,
      ...common,
      ...dial,
      ...(!isSelf && { upstream: reference.domain }),
      tls: mergeTls(hostTlsFiles(sources.certsDirs, name), host.tls),
    },
  ]
}

/** Who says something about certificates wants TLS on loopback, too. */
const speaksTls = ({ tls }: HostEntry): boolean => tls.skipVerify || tls.ca.length > 0 || tls.clients.length > 0

/** The API is at /v2 unless the operator wrote a path and said that it is the whole one. */
const prefixOf = (pathname: string, overridePath: boolean): string => {
  const path = pathname.replace(/\/+$/, '')
  return overridePath || path.endsWith('/v2') ? path : `${path}/v2`
}

const mergeTls = (files: TlsFiles, own: TlsFiles): TlsFiles => ({
  ca: [...files.ca, ...own.ca],
  clients: [...files.clients, ...own.clients],
  skipVerify: files.skipVerify || own.skipVerify,
})
