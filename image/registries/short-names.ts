/**
 * What a name without a registry can mean, by the aliases and search registries of registries.conf. Nobody sits at a
 * terminal here, so what is ambiguous is refused unless the operator said that guessing is fine.
 */

import { RuntimeError } from '#proto/errors.ts'
import { type ImageReference, isShortName, parseReference } from '../reference.ts'
import type { RegistriesConf } from './registries-conf.ts'

export interface Candidates {
  /** In the order in which they are tried; never empty. */
  readonly references: readonly ImageReference[]
  /** How the name was completed; undefined when it was complete. */
  readonly by?: string
}

/** Where a short name leads when nobody configured anything: what every Kubernetes user means. */
const HUB = 'docker.io'

/** @throws RuntimeError invalid-argument (not an image name, ambiguous, or no registry is allowed for short names) */
export const candidatesOf = (conf: RegistriesConf, text: string): Candidates => {
  const complete = parseReference(text)
  if (!isShortName(text)) return { references: [complete] }
  const { name, rest } = splitName(text)
  const alias = conf.aliases.get(name)
  if (alias) return { references: [parseReference(`${alias}${rest}`)], by: `alias "${name}"` }
  const registries = conf.searchRegistries ?? [HUB]
  if (registries.length === 0) {
    throw new RuntimeError(
      'invalid-argument',
      `Image name ${JSON.stringify(text)} has no registry, and "unqualified-search-registries" is empty`,
    )
  }
  // Not said is as strict as enforcing: a name must not mean another image because one registry is down.
  if (registries.length > 1 && (conf.shortNameMode ?? 'enforcing') === 'enforcing') {
    throw new RuntimeError(
      'invalid-argument',
      `Image name ${JSON.stringify(text)} is ambiguous: write the registry, one of ${registries.join(', ')}`,
    )
  }
  return {
    references: registries.map((registry) => parseReference(`${registry}/${text}`)),
    by: conf.searchRegistries === undefined ? 'default registry' : 'unqualified-search-registries',
  }
}

/** "team/app:1@sha256:…" → "team/app" and what follows it. */
const splitName = (text: string): { name: string; rest: string } => {
  const end = /[:@]/.exec(text)?.index ?? text.length
  return { name: text.slice(0, end), rest: text.slice(end) }
}
