/** What the names of registries mean: which server answers for one, which are on this machine, which are listed. */

import { isIPv4 } from 'node:net'
import type { Connection } from './connections.ts'

/** A server as the client speaks to it. */
export interface RegistryHost {
  /** As people write it, for errors and credentials: "docker.io", "127.0.0.1:5000". */
  readonly name: string
  /** Scheme, host and port to talk to. */
  readonly origin: string
  /** Path before the repository: "/v2". */
  readonly prefix: string
  /** The registry that it stands in for, told by `?ns=`. */
  readonly upstream?: string
  /** For requests to this origin only; values can be secret. */
  readonly headers: Readonly<Record<string, string>>
  readonly connection: Connection
}

/** The names that mean Docker Hub, whose registry answers elsewhere. */
const HUB_SERVER = 'registry-1.docker.io'

/** Host and port that answer for the registry part of a reference. */
export const serverOf = (domain: string): string => (domain === 'docker.io' ? HUB_SERVER : domain)

export const isListed = (hostAndPort: string, insecureRegistries: readonly string[]): boolean =>
  insecureRegistries.some((listed) => listed.trim().toLowerCase() === hostAndPort)

/** 127.0.0.0/8, ::1 and localhost, with or without port. Port 443 asks for TLS even there. */
export const isLoopback = (domain: string): boolean => {
  if (domain.endsWith(':443')) return false
  const host = domain.startsWith('[') ? domain.slice(1, domain.indexOf(']')) : domain.replace(/:\d+$/, '')
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}

/** Whether a server address out of pull credentials ("https://index.docker.io/v1/", "host:5000") means this registry. */
export const isServerOf = (serverAddress: string, domain: string): boolean => {
  const withoutScheme = serverAddress.trim().replace(/^https?:\/\//i, '')
  const host = withoutScheme.split('/', 1).join('').toLowerCase()
  const hub = new Set(['docker.io', 'index.docker.io', HUB_SERVER])
  return host === domain || (hub.has(host) && hub.has(domain))
}
