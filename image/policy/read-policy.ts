/** Reads a containers-policy.json(5) and all keys that it names. A policy that is not whole is none: what is wrong is said with its field. */

import { createPublicKey, type KeyObject, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type * as z from 'zod'
import { isErrno } from '#linux/errno.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import { parseStrictJson } from '../strict-json.ts'
import { dearmored } from './armor.ts'
import { scopeProblem } from './match-scope.ts'
import type { Policy, Requirement, Requirements, Signer } from './policy.ts'
import { policyFields, type RequirementFields, type SigstoreFields } from './policy-fields.ts'

const MAX_FILE_BYTES = 4 * 2 ** 20

/** @throws RuntimeError failed-precondition with file and field */
export const readPolicy = (path: string): Policy => {
  const reader = new KeyReader(path)
  const json = parseStrictJson(reader.file(path, 'the policy'), `Signature policy "${path}"`)
  const result = policyFields.safeParse(json)
  if (!result.success) throw problem(path, firstIssue(result.error.issues))
  const { transports } = result.data
  const read = (fields: readonly RequirementFields[], where: string): Requirements =>
    fields.map((each, index) => requirementOf(reader, each, `${where}.${index}`))
  const scopesOf = (transport: string, scopes: Record<string, RequirementFields[]>): [string, Requirements][] =>
    Object.entries(scopes).map(([scope, fields]) => {
      const where = `transports.${transport}.${JSON.stringify(scope)}`
      const wrong = scopeProblem(transport, scope)
      if (wrong !== undefined) throw problem(path, `${where}: ${wrong}`)
      return [scope, read(fields, where)]
    })
  return {
    default: read(result.data.default, 'default'),
    transports: new Map(Object.entries(transports).map(([name, scopes]) => [name, new Map(scopesOf(name, scopes))])),
    files: [...reader.files],
  }
}

const problem = (path: string, what: string, cause?: unknown): RuntimeError =>
  new RuntimeError('failed-precondition', `Signature policy "${path}" is invalid: ${what}`, { cause })

type Issue = z.core.$ZodIssue

/** "transports.docker."quay.io".0.keyPath: must be …" */
const firstIssue = (issues: readonly Issue[]): string => {
  const [issue] = issues
  if (issue === undefined) return 'unknown'
  const where = issue.path.map((part) => (/^[\w-]+$/.test(String(part)) ? String(part) : JSON.stringify(part)))
  const names = issue.code === 'unrecognized_keys' ? `: ${issue.keys.map((key) => JSON.stringify(key)).join(', ')}` : ''
  const what = issue.code === 'unrecognized_keys' ? `has unknown fields${names}` : issue.message
  return `${where.join('.') || 'the document'}: ${what}`
}

const requirementOf = (reader: KeyReader, fields: RequirementFields, where: string): Requirement => {
  switch (fields.type) {
    case 'insecureAcceptAnything':
    case 'reject':
      return fields
    case 'signedBy':
      return {
        type: 'signedBy',
        keyrings: reader
          .all(fields, 'key', where)
          .map(({ bytes, from }) => within(reader, from, () => dearmored(bytes))),
        identity: fields.signedIdentity,
      }
    case 'sigstoreSigned':
      return {
        type: 'sigstoreSigned',
        signer: signerOf(reader, fields, where),
        rekorKeys: publicKeys(reader, reader.all(fields, 'rekorPublicKey', where)),
        identity: fields.signedIdentity,
      }
  }
}

const signerOf = (reader: KeyReader, fields: SigstoreFields, where: string): Signer => {
  const { fulcio, pki } = fields
  if (fulcio) {
    const { oidcIssuer, subjectEmail } = fulcio
    return {
      by: 'fulcio',
      roots: certificates(reader, reader.all(fulcio, 'ca', `${where}.fulcio`)),
      oidcIssuer,
      subjectEmail,
    }
  }
  if (pki) {
    const at = `${where}.pki`
    return {
      by: 'pki',
      roots: certificates(reader, reader.all(pki, 'caRoots', at)),
      intermediates: certificates(reader, reader.all(pki, 'caIntermediates', at)),
      subjectEmail: pki.subjectEmail,
      subjectHostname: pki.subjectHostname,
    }
  }
  return { by: 'keys', keys: publicKeys(reader, reader.all(fields, 'key', where)) }
}

interface Found {
  readonly bytes: Buffer
  /** The field it came from, and the file. */
  readonly from: string
}

const publicKeys = (reader: KeyReader, found: readonly Found[]): KeyObject[] =>
  found.map(({ bytes, from }) => within(reader, from, () => createPublicKey(bytes)))

const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

const certificates = (reader: KeyReader, found: readonly Found[]): X509Certificate[] =>
  found.flatMap(({ bytes, from }) =>
    within(reader, from, () => {
      const blocks = bytes.toString('latin1').match(PEM) ?? []
      if (blocks.length === 0) throw new Error('holds no certificate in PEM')
      return blocks.map((block) => new X509Certificate(block))
    }),
  )

const within = <T>(reader: KeyReader, from: string, read: () => T): T => {
  try {
    return read()
  } catch (error) {
    throw problem(reader.policy, `${from}: ${messageOf(error)}`, error)
  }
}

/** Reads what a policy points to, and remembers from where. */
class KeyReader {
  readonly policy: string
  readonly files = new Set<string>()

  constructor(policy: string) {
    this.policy = policy
  }

  /** What `<name>Path`, `<name>Paths`, `<name>Data` and `<name>Datas` hold; the schema has seen to it that it is one of them. */
  all(fields: object, name: string, where: string): Found[] {
    const paths = [...list(fields, `${name}Path`), ...list(fields, `${name}Paths`)]
    const datas = [...list(fields, `${name}Data`), ...list(fields, `${name}Datas`)]
    return [
      ...paths.map(({ text, field }) => ({
        bytes: this.file(text, `${where}.${field}`),
        from: `${where}.${field}: "${text}"`,
      })),
      ...datas.map(({ text, field }) => ({ bytes: Buffer.from(text, 'base64'), from: `${where}.${field}` })),
    ]
  }

  file(path: string, where: string): Buffer {
    this.files.add(path)
    try {
      const bytes = readFileSync(path)
      if (bytes.length > MAX_FILE_BYTES) throw new Error(`is larger than ${MAX_FILE_BYTES} bytes`)
      return bytes
    } catch (error) {
      const why = isErrno(error, 'ENOENT') ? 'there is no such file' : messageOf(error)
      throw problem(this.policy, `${where}: "${path}": ${why}`, error)
    }
  }
}

const list = (fields: object, field: string): { text: string; field: string }[] => {
  const value: unknown = Reflect.get(fields, field)
  if (typeof value === 'string') return [{ text: value, field }]
  if (!Array.isArray(value)) return []
  return value.flatMap((text: unknown, index) =>
    typeof text === 'string' ? [{ text, field: `${field}.${index}` }] : [],
  )
}
