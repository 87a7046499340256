/**
 * Which [[registry]] of registries.conf speaks for a reference, and the servers that it leads to. The longest prefix
 * decides, a host that is written out before a wildcard.
 */

import { RuntimeError } from '#proto/errors.ts'
import { canonical, type ImageReference, parseReference } from '../reference.ts'
import type { ConfMirror, ConfRegistry, RegistriesConf } from './registries-conf.ts'

export interface Place {
  readonly reference: ImageReference
  readonly insecure: boolean
  readonly isMirror: boolean
}

/** The entry that decides about this reference. */
export const matchRegistry = (conf: RegistriesConf, reference: ImageReference): ConfRegistry | undefined => {
  const text = written(reference)
  let best: { registry: ConfRegistry; length: number } | undefined
  for (const registry of conf.registries) {
    const length = matchLength(text, registry.prefix)
    if (length === undefined) continue
    const longer = best === undefined || length > best.length
    const exacter = length === best?.length && isWildcard(best.registry.prefix) && rank(registry) > rank(best.registry)
    if (longer || exacter) best = { registry, length }
  }
  return best?.registry
}

/**
 * Where the entry sends us, mirrors first.
 * @throws RuntimeError permission-denied when it is blocked; failed-precondition when the rule makes no image name of it
 */
export const placesOf = (registry: ConfRegistry, reference: ImageReference): Place[] => {
  if (registry.blocked) {
    throw new RuntimeError(
      'permission-denied',
      `Image "${canonical(reference)}" is blocked: prefix "${registry.prefix}" in "${registry.file}"`,
    )
  }
  const mirrors = registry.mirrors.filter((mirror) => isMeant(mirror, reference))
  return [
    ...mirrors.map(({ location, insecure }) => ({
      reference: rewritten(registry, location, reference),
      insecure,
      isMirror: true,
    })),
    { reference: rewritten(registry, registry.location, reference), insecure: registry.insecure, isMirror: false },
  ]
}

const isMeant = ({ pullFromMirror }: ConfMirror, { digest }: ImageReference): boolean =>
  pullFromMirror === 'all' || (pullFromMirror === 'digest-only') === (digest !== undefined)

/** With tag and digest, as prefixes may name them. */
const written = ({ domain, path, tag, digest }: ImageReference): string =>
  `${domain}/${path}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`

const isWildcard = (prefix: string): boolean => prefix.startsWith('*.')

/** Of two that match equally far: the written-out one, then the more specific wildcard. */
const rank = ({ prefix }: ConfRegistry): number => (isWildcard(prefix) ? prefix.length : Number.POSITIVE_INFINITY)

/** How much of the reference the prefix takes, to the end of a name's part; undefined when it does not match. */
const matchLength = (text: string, prefix: string): number | undefined => {
  if (isWildcard(prefix)) return wildcardLength(text, prefix.slice(1))
  return text.startsWith(prefix) && isBoundary(text, prefix.length) ? prefix.length : undefined
}

/** ".example.com" (maybe with a path behind): the end of the host name, with something before it. */
const wildcardLength = (text: string, suffix: string): number | undefined => {
  const slash = text.indexOf('/')
  for (let at = text.indexOf(suffix, 1); at > 0 && at < slash; at = text.indexOf(suffix, at + 1)) {
    if (isBoundary(text, at + suffix.length)) return at + suffix.length
  }
  return undefined
}

const isBoundary = (text: string, at: number): boolean => at === text.length || [':', '/', '@'].includes(text[at] ?? '')

const rewritten = (registry: ConfRegistry, location: string, reference: ImageReference): ImageReference => {
  if (location === '') return reference
  const text = written(reference)
  const rest = text.slice(matchLength(text, registry.prefix) ?? 0)
  try {
    const result = parseReference(`${location}${rest}`)
    if (result.tag === reference.tag && result.digest === reference.digest) return result
  } catch (cause) {
    throw badRewrite(registry, location, text, cause)
  }
  throw badRewrite(registry, location, text)
}

const badRewrite = ({ prefix, file }: ConfRegistry, location: string, text: string, cause?: unknown): RuntimeError =>
  new RuntimeError(
    'failed-precondition',
    `File "${file}": prefix "${prefix}" with location "${location}" makes no image name of "${text}"`,
    { cause },
  )
