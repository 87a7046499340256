/**
 * Whose credentials a server gets, in order: the pod's pull secret, the namespace's file, the node's files and helpers.
 * The pod's are for the registry that its image names; a mirror sees them only where a rule of the operator says so.
 */

import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { canonical, type ImageReference } from '../reference.ts'
import { isServerOf } from '../registry/hosts.ts'
import type { CredentialSource } from '../registry/session.ts'
import { type AuthEntry, authEntries } from './auth-file.ts'
import { askHelper, type HelperSettings } from './credential-helper.ts'
import { type Credentials, type RegistryAuth, readCredentials } from './credentials.ts'

export interface CredentialSettings {
  /** The node's own files, the first one first. */
  readonly authFiles: readonly string[]
  /** Directory of files per namespace. */
  readonly namespaceAuthDir?: string | undefined
  /** Registry → mirrors that are shown the credentials for it. */
  readonly shareWithMirrors: Readonly<Record<string, readonly string[]>>
  readonly helpers: HelperSettings
}

export interface CredentialQuestion {
  /** Who would get them: "mirror.example:5000". */
  readonly server: string
  /** The repository there. */
  readonly repository: string
  /** The image that is pulled, and how it was written. */
  readonly reference: ImageReference
  readonly written: string
  readonly auth?: RegistryAuth
  readonly namespace?: string
  /** `credential-helpers` of registries.conf; replaces `authFiles` alone, of which "containers-auth.json" stands for. */
  readonly configuredHelpers: readonly string[] | undefined
}

/** One place that may have credentials. */
export interface CredentialPlace {
  /** For operators: 'entry "quay.io" of "/etc/…"'. Never the secret. */
  readonly from: string
  get(signal: AbortSignal): Promise<Credentials>
}

const FILES_WORD = 'containers-auth.json'
const NAMESPACE = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/
const ANONYMOUS: Credentials = { kind: 'anonymous' }

/**
 * The places in order; files are read now, helper programs run when asked.
 * @throws RuntimeError invalid-argument (the pod's credentials cannot be), failed-precondition (a broken file)
 */
export const credentialPlaces = (settings: CredentialSettings, question: CredentialQuestion): CredentialPlace[] => {
  const pods = podCredentials(settings, question)
  if (pods.kind !== 'anonymous') return [{ from: "the pod's pull secret", get: async () => pods }]
  const targets = targetsOf(settings, question)
  const placesIn = (file: string): CredentialPlace[] =>
    targets.flatMap(({ registry, repository }) =>
      authEntries(file, registry, repository).map((entry) => placeOf(settings, entry)),
    )
  const nodes = (question.configuredHelpers ?? [FILES_WORD]).flatMap((name) =>
    name === FILES_WORD
      ? settings.authFiles.flatMap(placesIn)
      : targets.map(({ registry }) => helperPlace(settings, name, registry)),
  )
  return [...namespaceFiles(settings, question).flatMap(placesIn), ...nodes]
}

/** Under whose names the server's credentials are kept: its own, then that of the registry which shares with it. */
const targetsOf = (
  settings: CredentialSettings,
  { server, repository, reference }: CredentialQuestion,
): { registry: string; repository: string }[] => [
  { registry: server, repository },
  ...(isSharedWith(settings, reference, server) ? [{ registry: reference.domain, repository: reference.path }] : []),
]

const isSharedWith = (
  { shareWithMirrors }: Pick<CredentialSettings, 'shareWithMirrors'>,
  { domain }: ImageReference,
  server: string,
): boolean =>
  server !== domain && Object.hasOwn(shareWithMirrors, domain) && !!shareWithMirrors[domain]?.includes(server)

/** For a session: the first place that has something, found when first needed. */
export const credentialSource = (settings: CredentialSettings, question: CredentialQuestion): CredentialSource => {
  const pods = podCredentials(settings, question)
  let found: Promise<Credentials> | undefined
  return {
    ...(pods.kind === 'bearer' && { upfront: pods.token }),
    get: (signal) => {
      found ??= firstOf(settings, question, signal)
      // A helper that failed is asked again at the next try.
      found.catch(() => {
        found = undefined
      })
      return found
    },
  }
}

const firstOf = async (
  settings: CredentialSettings,
  question: CredentialQuestion,
  signal: AbortSignal,
): Promise<Credentials> => {
  for (const { get } of credentialPlaces(settings, question)) {
    const credentials = await get(signal)
    if (credentials.kind !== 'anonymous') return credentials
  }
  return ANONYMOUS
}

/** Whether a pod's pull secret goes to this server when it names none of its own. */
export const isForPodsSecret = (
  settings: Pick<CredentialSettings, 'shareWithMirrors'>,
  { server, reference }: Pick<CredentialQuestion, 'server' | 'reference'>,
): boolean => server === reference.domain || isSharedWith(settings, reference, server)

const podCredentials = (settings: CredentialSettings, question: CredentialQuestion): Credentials => {
  const { auth, server, reference } = question
  if (!auth) return ANONYMOUS
  // Some pull secrets are for the mirror and say so.
  if (auth.serverAddress && isServerOf(auth.serverAddress, server)) return readCredentials(auth, server)
  return isForPodsSecret(settings, question) ? readCredentials(auth, reference.domain) : ANONYMOUS
}

/** "<namespace>-<sha256 of the image name>.json" as credential providers write it, then "<namespace>.json". */
const namespaceFiles = (
  { namespaceAuthDir: dir }: CredentialSettings,
  { namespace, reference, written }: CredentialQuestion,
): string[] => {
  // It becomes part of a path.
  if (dir === undefined || namespace === undefined || !NAMESPACE.test(namespace)) return []
  const hashes = [written, canonical(reference)].map((text) => createHash('sha256').update(text).digest('hex'))
  return [...new Set(hashes)]
    .map((hash) => join(dir, `${namespace}-${hash}.json`))
    .concat(join(dir, `${namespace}.json`))
}

const placeOf = (settings: CredentialSettings, entry: AuthEntry): CredentialPlace =>
  entry.kind === 'stored'
    ? { from: entry.from, get: async () => entry.credentials }
    : { from: entry.from, get: (signal) => askHelper(settings.helpers, entry.helper, entry.server, signal) }

const helperPlace = (settings: CredentialSettings, name: string, server: string): CredentialPlace => ({
  from: `helper "docker-credential-${name}", named by registries.conf`,
  get: (signal) => askHelper(settings.helpers, name, server, signal),
})
