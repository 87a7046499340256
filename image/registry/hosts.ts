/**
 * Which server answers for a registry's name and over what. Plain HTTP only for names that the operator listed and for
 * loopback; everything else is HTTPS and never falls back.
 */

import { isIPv4 } from 'node:net'

export interface RegistryHost {
  /** As in image names: "docker.io", "127.0.0.1:5000". */
  readonly name: string
  /** Scheme, host and port to talk to. */
  readonly origin: string
}

/** The names that mean Docker Hub, whose registry answers elsewhere. */
const HUB_SERVER = 'registry-1.docker.io'

/**
 * @param domain the registry part of a normalised reference
 * @param insecureRegistries "host:port" or "host" exactly as in image names
 */
export const registryHost = (domain: string, insecureRegistries: readonly string[]): RegistryHost => {
  const plain = isLoopback(domain) || isListed(domain, insecureRegistries)
  const server = domain === 'docker.io' ? HUB_SERVER : domain
  return { name: domain, origin: new URL(`${plain ? 'http' : 'https'}://${server}`).origin }
}

export const isListed = (hostAndPort: string, insecureRegistries: readonly string[]): boolean =>
  insecureRegistries.some((listed) => listed.trim().toLowerCase() === hostAndPort)

/** 127.0.0.0/8, ::1 and localhost, with or without port. Port 443 asks for TLS even there. */
const isLoopback = (domain: string): boolean => {
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
