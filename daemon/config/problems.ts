/**
 * From a value that does not fit the schema to sentences that name the key, the value and what is allowed. The place
 * (file and line, or flag) is added by whoever knows it.
 */
import * as z from 'zod'
import { ConfigFile } from './schema.ts'

export type KeyPath = readonly (string | number)[]

/** One thing wrong with the configuration. `where` says in which file and line, or by which flag. */
export interface Problem {
  where: string
  what: string
}

export interface Misfit {
  path: KeyPath
  what: string
}

/** The part of a JSON schema that is read here and by document.ts. */
export interface SchemaNode {
  type?: string
  description?: string
  default?: unknown
  enum?: unknown[]
  properties?: Record<string, SchemaNode>
  additionalProperties?: SchemaNode | boolean
  items?: SchemaNode
}

/** The schema as plain data. Made when asked for: only errors and documents need it. */
export const configSchema = (): SchemaNode => z.toJSONSchema(ConfigFile) as SchemaNode

/** `network.binDirs[0]`. */
export const keyText = (path: KeyPath): string =>
  path.map((key, index) => (typeof key === 'number' ? `[${key}]` : index === 0 ? key : `.${key}`)).join('')

const MAX_VALUE_CHARS = 80

/** A value as it is shown in an error: JSON, cut when long. */
export const valueText = (value: unknown): string => {
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length > MAX_VALUE_CHARS ? `${text.slice(0, MAX_VALUE_CHARS)}…` : text
}

const childNode = (node: SchemaNode | undefined, key: string | number): SchemaNode | undefined => {
  if (typeof key === 'number') return node?.items
  const named = node?.properties?.[key]
  if (named !== undefined) return named
  return typeof node?.additionalProperties === 'object' ? node.additionalProperties : undefined
}

const nodeAt = (path: KeyPath): SchemaNode | undefined => path.reduce<SchemaNode | undefined>(childNode, configSchema())

const valueAt = (data: unknown, path: KeyPath): unknown =>
  path.reduce<unknown>(
    (value, key) => (typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined),
    data,
  )

const quotedList = (words: readonly unknown[]): string => words.map((word) => JSON.stringify(word)).join(', ')

const typeWords: Record<string, string> = {
  string: 'a string',
  array: 'a list',
  object: 'a mapping of keys',
  record: 'a mapping of keys',
  number: 'a number',
  boolean: 'true or false',
}

const wrongType = (issue: z.core.$ZodIssue & { code: 'invalid_type' }, value: unknown): string => {
  const expected = `must be ${typeWords[issue.expected] ?? issue.expected}`
  if (value !== null) return `${expected}, not ${valueText(value)}`
  return issue.expected === 'array'
    ? `${expected}, but has no value (write [] for none)`
    : `${expected}, but has no value`
}

const unknownKey = (path: KeyPath, key: string): Misfit => {
  const allowed = Object.keys(nodeAt(path)?.properties ?? {})
  return { path: [...path, key], what: `is not a known key; allowed here are ${quotedList(allowed)}` }
}

const misfitsOf = (issue: z.core.$ZodIssue, data: unknown): Misfit[] => {
  const path = issue.path.map((key) => (typeof key === 'number' ? key : String(key)))
  const value = valueAt(data, path)
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => unknownKey(path, key))
    case 'invalid_type':
      return [{ path, what: wrongType(issue, value) }]
    case 'invalid_value':
      return [{ path, what: `must be one of ${quotedList(issue.values)}, not ${valueText(value)}` }]
    case 'invalid_key':
      return [{ path, what: `is not a usable name: it ${issue.issues[0]?.message ?? 'is malformed'}` }]
    default:
      return [{ path, what: `${issue.message}, not ${valueText(value)}` }]
  }
}

/** Every way in which `data` does not fit the schema, in the order in which the schema lists its keys. */
export const misfits = (data: unknown): Misfit[] => {
  const checked = ConfigFile.safeParse(data)
  return checked.success ? [] : checked.error.issues.flatMap((issue) => misfitsOf(issue, data))
}

/** `"network.binDirs" must be a list, not "x"`. */
export const misfitText = ({ path, what }: Misfit): string => `"${keyText(path)}" ${what}`
