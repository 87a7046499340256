/**
 * How a server is connected to: whom we trust, who we are, how long we wait. Made of files that are read for every pull,
 * so that a renewed certificate counts at once; equal content shares sockets.
 */

import { createHash, X509Certificate } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import * as tls from 'node:tls'
import { messageOf } from '#proto/errors.ts'
import type { TlsFiles } from '../registries/route.ts'
import { badFile } from '../registries/toml-file.ts'

export interface Connection {
  /** Equal for equal settings; says nothing about keys. */
  readonly key: string
  /** PEM, beside the authorities of the system. */
  readonly ca: readonly string[]
  readonly clients: readonly { readonly cert: string; readonly key: string }[]
  readonly skipVerify: boolean
  readonly dialTimeoutMs?: number
}

export const PLAIN_CONNECTION: Connection = { key: '', ca: [], clients: [], skipVerify: false }

const MAX_PEM_BYTES = 1024 * 1024

/** @throws RuntimeError failed-precondition naming the file that cannot be used */
export const readConnection = (files: TlsFiles, dialTimeoutMs?: number): Connection => {
  if (files.ca.length === 0 && files.clients.length === 0 && !files.skipVerify && dialTimeoutMs === undefined)
    return PLAIN_CONNECTION
  const ca = files.ca.map((file) => readPem(file, 'CERTIFICATE'))
  const clients = files.clients.map(({ cert, key }) => ({
    cert: readPem(cert, 'CERTIFICATE'),
    key: readPem(key, 'PRIVATE KEY'),
  }))
  const { skipVerify } = files
  const text = JSON.stringify([ca, clients, skipVerify, dialTimeoutMs])
  const key = createHash('sha256').update(text).digest('base64url')
  return checked(files, { key, ca, clients, skipVerify, ...(dialTimeoutMs !== undefined && { dialTimeoutMs }) })
}

/** For whom a server refers us to: the same trust, but nobody else may see who we are. */
export const withoutClients = ({ clients, ...rest }: Connection): Connection =>
  clients.length === 0 ? { ...rest, clients } : { ...rest, clients: [], key: `${rest.key} anonymous` }

const readPem = (file: string, what: string): string => {
  try {
    if (statSync(file).size > MAX_PEM_BYTES) throw badFile(file, `is larger than ${MAX_PEM_BYTES} bytes`)
    const text = readFileSync(file, 'latin1')
    if (text.includes(`${what}-----`)) return text
  } catch (error) {
    throw badFile(file, `cannot be read: ${messageOf(error)}`, error)
  }
  throw badFile(file, `holds no PEM "${what}"`)
}

/** Broken PEM, or a key of another certificate, is found here and not as a riddle at the first request. */
const checked = (files: TlsFiles, connection: Connection): Connection => {
  const usable = (names: readonly string[], use: () => unknown): void => {
    try {
      use()
    } catch (error) {
      throw badFile([...new Set(names)].join('" and "'), `cannot be used: ${messageOf(error)}`, error)
    }
  }
  // A context passes over what is no certificate.
  for (const [index, ca] of connection.ca.entries()) {
    usable([files.ca[index] ?? ''], () => certificatesIn(ca).map((pem) => new X509Certificate(pem)))
  }
  for (const [index, pair] of connection.clients.entries()) {
    const { cert = '', key = '' } = files.clients[index] ?? {}
    usable([cert, key], () => tls.createSecureContext(pair))
  }
  return connection
}

const certificatesIn = (pem: string): string[] =>
  pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []

/** What https.request needs for it. */
export const tlsOptions = (connection: Connection): tls.ConnectionOptions => ({
  secureContext: secureContext(connection),
  rejectUnauthorized: !connection.skipVerify,
})

const secureContext = ({ ca, clients }: Connection): tls.SecureContext => {
  if (ca.length === 0 && clients.length === 0) {
    systemContext ??= tls.createSecureContext({ ca: systemAuthorities(), minVersion: 'TLSv1.2' })
    return systemContext
  }
  return tls.createSecureContext({
    ca: [...systemAuthorities(), ...ca],
    minVersion: 'TLSv1.2',
    ...(clients.length > 0 && { cert: clients.map(({ cert }) => cert), key: clients.map(({ key }) => key) }),
  })
}

let systemContext: tls.SecureContext | undefined

let authorities: string[] | undefined

/**
 * As operators expect: what the system trusts, read once. A system that trusts nobody at all has no store; then Node's
 * own counts. A store names most authorities several times, and each costs time and memory.
 */
const systemAuthorities = (): string[] => {
  authorities ??= [...new Set(tls.getCACertificates('system'))]
  return authorities.length > 0 ? authorities : tls.getCACertificates('bundled')
}
