/**
 * containerd's `certs.d/<host>/hosts.toml`: an ordered list of servers that answer for a registry, the registry itself
 * (or `server`) last.
 */

import { isAbsolute, join } from 'node:path'
import * as z from 'zod'
import type { ClientPair, TlsFiles } from './route.ts'
import { readTomlFile } from './toml-file.ts'

const texts = z.union([z.string(), z.array(z.string())]).transform((value) => [value].flat())
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
/** They would break the request or leave the place where credentials are decided about. */
const RESERVED = new Set(['host', 'content-length', 'transfer-encoding', 'connection', 'range', 'accept-encoding'])

const headers = z.record(
  z
    .string()
    .regex(HEADER_NAME, { error: 'must be a header name' })
    .refine((name) => !RESERVED.has(name.toLowerCase()), { error: 'is a header that cannot be set' }),
  texts.refine((values) => values.every((value) => /^[\t\x20-\x7e]*$/.test(value)), {
    error: 'must be printable text',
  }),
)

const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

/** Go's durations: "30s", "1m30s", "500ms". */
const duration = z
  .string()
  .regex(/^(?:\d+(?:\.\d+)?(?:ms|s|m|h))+$/, { error: 'must be a duration such as "30s"' })
  .transform((text) =>
    [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)].reduce(
      (sum, [, count, unit]) => sum + Number(count) * (UNITS[unit ?? ''] ?? 0),
      0,
    ),
  )

const hostFields = {
  capabilities: z.array(z.enum(['pull', 'resolve', 'push', 'referrers'])).optional(),
  ca: texts.optional(),
  client: z.union([z.string(), z.array(z.union([z.string(), z.array(z.string()).min(1).max(2)]))]).optional(),
  skip_verify: z.boolean().optional(),
  header: headers.optional(),
  override_path: z.boolean().optional(),
  dial_timeout: duration.optional(),
}

const ADDRESS = /^(?:https?:\/\/)?(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?(?:\/[^\s?#@]*)?$/
const address = z.string().regex(ADDRESS, { error: 'must be "[http(s)://]host[:port][/path]"' })

const document = z.strictObject({
  server: address.or(z.literal('')).optional(),
  ...hostFields,
  host: z.record(address, z.strictObject(hostFields)).optional(),
})

export interface HostEntry {
  /** "https://mirror.example:5000/v2"; undefined: the registry itself. */
  readonly address: string | undefined
  readonly resolves: boolean
  readonly pulls: boolean
  readonly overridePath: boolean
  readonly headers: Readonly<Record<string, string>>
  readonly tls: TlsFiles
  readonly dialTimeoutMs?: number
}

export interface HostsToml {
  readonly file: string
  /** In order; the registry or `server` is the last. */
  readonly hosts: readonly HostEntry[]
  readonly warnings: readonly string[]
}

/** @throws RuntimeError failed-precondition naming file, key and value */
export const readHostsToml = (dir: string): HostsToml => {
  const file = join(dir, 'hosts.toml')
  const { data, warnings } = readTomlFile(file, document)
  const { server, host, ...own } = data
  const listed = Object.entries(host ?? {}).map(([at, fields]) => entryOf(dir, at, fields))
  return { file, hosts: [...listed, entryOf(dir, server || undefined, own)], warnings }
}

type HostFields = Omit<z.output<typeof document>, 'server' | 'host'>

const entryOf = (dir: string, at: string | undefined, fields: HostFields): HostEntry => {
  const able = new Set<string>(fields.capabilities?.length ? fields.capabilities : ['pull', 'resolve'])
  const path = (name: string): string => (isAbsolute(name) ? name : join(dir, name))
  return {
    address: at,
    resolves: able.has('resolve'),
    pulls: able.has('pull'),
    overridePath: fields.override_path ?? false,
    headers: Object.fromEntries(Object.entries(fields.header ?? {}).map(([name, values]) => [name, values.join(', ')])),
    tls: {
      ca: (fields.ca ?? []).map(path),
      clients: clientPairs(fields.client).map(({ cert, key }) => ({ cert: path(cert), key: path(key) })),
      skipVerify: fields.skip_verify ?? false,
    },
    ...(fields.dial_timeout !== undefined && { dialTimeoutMs: fields.dial_timeout }),
  }
}

/** One file with both, a list of such files, or a list of pairs. */
const clientPairs = (client: HostFields['client']): ClientPair[] =>
  (client === undefined ? [] : [client].flat(1)).map((each) => {
    const [cert = '', key] = [each].flat()
    return { cert, key: key || cert }
  })
