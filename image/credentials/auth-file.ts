/**
 * Docker's config.json and containers' auth.json: which entry or helper program is for a repository. The most specific
 * name wins; what is in the entries is never shown.
 */

import { readFileSync, statSync } from 'node:fs'
import * as z from 'zod'
import { isErrno } from '#linux/errno.ts'
import { badFile } from '../registries/toml-file.ts'
import { isServerOf } from '../registry/hosts.ts'
import { type Credentials, readCredentials } from './credentials.ts'

const text = z.string().max(65_536)

const entry = z.object({
  auth: text.optional(),
  username: text.optional(),
  password: text.optional(),
  identitytoken: text.optional(),
  registrytoken: text.optional(),
})

const document = z.object({
  auths: z.record(z.string(), entry.nullable()).nullish(),
  credHelpers: z.record(z.string(), z.string()).nullish(),
  credsStore: z.string().nullish(),
})

/** Who has the credentials for a repository. */
export type AuthEntry =
  | { readonly kind: 'stored'; readonly credentials: Credentials; readonly from: string }
  | { readonly kind: 'helper'; readonly helper: string; readonly server: string; readonly from: string }

const MAX_BYTES = 1024 * 1024
/** The name under which Docker's own tools keep what is for Docker Hub. */
const HUB_KEY = 'https://index.docker.io/v1/'

/**
 * In the order in which they are tried; empty when the file is not there or says nothing about this repository.
 * @param registry "docker.io", "host:5000"
 * @throws RuntimeError failed-precondition when the file is broken; its content is not shown
 */
export const authEntries = (file: string, registry: string, repository: string): AuthEntry[] => {
  const parsed = readAuthFile(file)
  if (parsed === undefined) return []
  const helper = Object.entries(parsed.credHelpers ?? {}).find(([server]) => isServerOf(server, registry))
  const key = bestKey(Object.keys(parsed.auths ?? {}), registry, repository)
  const stored = key === undefined ? undefined : parsed.auths?.[key]
  const store = parsed.credsStore
  return [
    ...(helper ? [helperEntry(file, helper[1], registry)] : []),
    ...(key !== undefined && stored ? storedEntry(file, key, stored, registry) : []),
    ...(store ? [helperEntry(file, store, registry)] : []),
  ]
}

const helperEntry = (file: string, helper: string, registry: string): AuthEntry => ({
  kind: 'helper',
  helper,
  server: registry === 'docker.io' ? HUB_KEY : registry,
  from: `helper "docker-credential-${helper}", named by "${file}"`,
})

/** Docker leaves an empty entry behind when a helper has the secret. */
const storedEntry = (file: string, key: string, found: z.output<typeof entry>, registry: string): AuthEntry[] => {
  const { username, password, auth, identitytoken, registrytoken } = found
  const given = {
    ...(username && { username }),
    ...(password && { password }),
    ...(auth && { auth }),
    ...(identitytoken && { identityToken: identitytoken }),
    ...(registrytoken && { registryToken: registrytoken }),
  }
  const from = `entry "${key}" of "${file}"`
  try {
    const credentials = readCredentials(given, registry)
    return credentials.kind === 'anonymous' ? [] : [{ kind: 'stored', credentials, from }]
  } catch (error) {
    throw badFile(file, `entry "${key}" has credentials that cannot be read`, error)
  }
}

/** "quay.io/team/app" before "quay.io/team" before "quay.io" before older spellings such as "https://quay.io/v2/". */
const bestKey = (keys: readonly string[], registry: string, repository: string): string | undefined => {
  const parts = repository.split('/')
  for (let count = parts.length; count >= 0; count--) {
    const wanted = [registry, ...parts.slice(0, count)].join('/')
    if (keys.includes(wanted)) return wanted
  }
  return keys.find((key) => isWholeServer(key) && isServerOf(key, registry))
}

/** A path counts only where it is one of the API, else the entry is for a repository. */
const isWholeServer = (key: string): boolean => {
  const path = key.replace(/^https?:\/\//i, '').replace(/^[^/]*/, '')
  return /^\/?(?:v[12]\/?)?$/.test(path)
}

const readAuthFile = (file: string): z.output<typeof document> | undefined => {
  let bytes: string
  try {
    if (statSync(file).size > MAX_BYTES) throw badFile(file, `is larger than ${MAX_BYTES} bytes`)
    bytes = readFileSync(file, 'utf8')
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw badFile(file, 'cannot be read', error)
  }
  const parsed = document.safeParse(jsonOf(bytes, file))
  if (parsed.success) return parsed.data
  throw badFile(file, `key "${parsed.error.issues[0]?.path.map(String).join('.') ?? ''}" is not what it should be`)
}

const jsonOf = (bytes: string, file: string): unknown => {
  try {
    return JSON.parse(bytes)
  } catch {
    // The engine's message quotes the file.
    throw badFile(file, 'is not JSON')
  }
}
