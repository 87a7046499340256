/** What a pull may prove who it is with: the kubelet's loose message turned into one of four cases. */

import { createHash } from 'node:crypto'
import { RuntimeError } from '#proto/errors.ts'
import { isServerOf } from '../registry/hosts.ts'

/** As in CRI's AuthConfig; empty and absent mean the same. */
export interface RegistryAuth {
  readonly username?: string
  readonly password?: string
  /** base64 of "username:password". */
  readonly auth?: string
  /** The registry that these are for; for any other they are not used. */
  readonly serverAddress?: string
  /** A refresh token for the token service. */
  readonly identityToken?: string
  /** Sent to the registry as it is. */
  readonly registryToken?: string
}

export type Credentials =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  | { readonly kind: 'refresh'; readonly token: string }
  | { readonly kind: 'bearer'; readonly token: string }

const ANONYMOUS: Credentials = { kind: 'anonymous' }

/**
 * The credentials for this registry; the most specific one given wins.
 * @throws RuntimeError invalid-argument when `auth` is not base64 of user and password, or a token cannot be a header
 */
export const readCredentials = (auth: RegistryAuth | undefined, domain: string): Credentials => {
  if (!auth || (auth.serverAddress && !isServerOf(auth.serverAddress, domain))) return ANONYMOUS
  if (auth.registryToken) return { kind: 'bearer', token: headerSafe(auth.registryToken) }
  if (auth.identityToken) return { kind: 'refresh', token: auth.identityToken }
  if (auth.username) return { kind: 'basic', username: auth.username, password: auth.password ?? '' }
  return auth.auth ? decodeAuth(auth.auth) : ANONYMOUS
}

const decodeAuth = (auth: string): Credentials => {
  const text = Buffer.from(auth, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  if (colon <= 0) throw new RuntimeError('invalid-argument', 'Field "auth" is not base64 of "username:password"')
  // Old Docker clients padded the password with NULs.
  return { kind: 'basic', username: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, '') }
}

const headerSafe = (token: string): string => {
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw new RuntimeError('invalid-argument', 'Field "registryToken" has characters that no token has')
  }
  return token
}

/** Stands for what the kubelet gave in keys of pulls in flight. Empty and absent mean the same. */
export const authKey = (auth: RegistryAuth | undefined): string => {
  const given = Object.entries(auth ?? {}).filter(([, value]) => value !== undefined && value !== '')
  return given.length === 0 ? '' : hashOf(given.sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** Stands for the credentials in keys of caches and of pulls in flight; says nothing about them. */
export const credentialsKey = (credentials: Credentials): string => hashOf(credentials)

const hashOf = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('base64url')

export const basicHeader = (username: string, password: string): string =>
  `Basic ${Buffer.from(`${username}:${password}`, 'utf8').toString('base64')}`
