/** Which requirements of a policy speak for an image: those of the longest scope that it lies in, else its transport's, else the default. */

import { canonical, type ImageReference, repositoryOf } from '../reference.ts'
import type { Policy, Requirements } from './policy.ts'

export interface MatchedScope {
  /** 'transports.docker."quay.io/team"', "default". */
  readonly scope: string
  readonly requirements: Requirements
}

/** For an image of a registry. */
export const requirementsFor = (policy: Policy, reference: ImageReference): MatchedScope =>
  matched(policy, 'docker', scopesOf(reference))

/** For images out of a file or directory. @param transport "oci", "oci-archive", "docker-archive" */
export const requirementsForFile = (policy: Policy, transport: string, path: string): MatchedScope =>
  matched(policy, transport, [path, ...parents(path, '/').filter((parent) => parent !== '')])

const matched = (policy: Policy, transport: string, scopes: readonly string[]): MatchedScope => {
  const ours = policy.transports.get(transport)
  for (const scope of [...scopes, '']) {
    const requirements = ours?.get(scope)
    if (requirements) return { scope: `transports.${transport}.${JSON.stringify(scope)}`, requirements }
  }
  return { scope: 'default', requirements: policy.default }
}

/** The most precise first: the image, its repository, namespaces, registry, the registry's domains as wildcards. */
const scopesOf = (reference: ImageReference): string[] => {
  const repository = repositoryOf(reference)
  const host = reference.domain.replace(/:\d+$/, '')
  return [canonical(reference), repository, ...parents(repository, '/'), ...wildcards(host)]
}

/** "a/b/c" → "a/b", "a" */
const parents = (name: string, separator: string): string[] => {
  const at = name.lastIndexOf(separator)
  return at < 0 ? [] : [name.slice(0, at), ...parents(name.slice(0, at), separator)]
}

/** "a.b.example" → "*.b.example", "*.example" */
const wildcards = (host: string): string[] => {
  const dot = host.indexOf('.')
  return dot < 0 ? [] : [`*${host.slice(dot)}`, ...wildcards(host.slice(dot + 1))]
}

const WILDCARD = /^\*(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$/i

/** Why no image could ever lie in a scope, which its writer will not have meant. */
export const scopeProblem = (transport: string, scope: string): string | undefined => {
  if (transport !== 'docker' || scope === '') return undefined
  if (scope.includes('*') && !WILDCARD.test(scope)) return 'a wildcard must have the form "*.example.com"'
  if (/^[a-z]+:\/\//i.test(scope)) return 'must be written without "https://"'
  if (scope.endsWith('/')) return 'must not end in "/"'
  return undefined
}
