/**
 * Fields of a log line as plain, bounded, harmless data: secrets blotted out, errors with their causes, nothing that
 * JSON cannot carry. Reads everything defensively, since a log call must never be what breaks.
 */
import { RuntimeError } from '#proto/errors.ts'

const REDACTED = '[redacted]'

/** Compared in lower case, without "_" and "-". */
const SECRET_KEYS = new Set(['auth', 'password', 'token', 'identitytoken', 'registrytoken', 'authorization'])

const MAX_STRING_CHARS = 8 * 1024
const MAX_DEPTH = 8
const MAX_ENTRIES = 200

/** What winston and this format write themselves; a field of such a name gets a "_" behind it. */
const RESERVED = new Set(['time', 'level', 'message', 'splat'])

const isSecret = (key: string): boolean => SECRET_KEYS.has(key.toLowerCase().replaceAll(/[_-]/g, ''))

const cut = (text: string): string =>
  text.length > MAX_STRING_CHARS ? `${text.slice(0, MAX_STRING_CHARS)}… (${text.length} characters)` : text

const plainError = (error: Error, depth: number): Record<string, unknown> => {
  const plain: Record<string, unknown> = { name: error.name, message: cut(error.message) }
  if (error instanceof RuntimeError) plain.kind = error.kind
  for (const key of ['code', 'syscall', 'path'] as const) {
    const value: unknown = Reflect.get(error, key)
    if (typeof value === 'string' || typeof value === 'number') plain[key] = value
  }
  // An error with a kind or a code says what happened; where in the sources matters only for surprises.
  if (plain.kind === undefined && plain.code === undefined && error.stack !== undefined) plain.stack = cut(error.stack)
  if (error instanceof AggregateError) plain.errors = plainValue(error.errors, depth + 1)
  if (error.cause !== undefined) plain.cause = plainValue(error.cause, depth + 1)
  return plain
}

const plainEntries = (entries: Iterable<[string, unknown]>, depth: number): Record<string, unknown> => {
  const plain: Record<string, unknown> = {}
  let count = 0
  for (const [key, value] of entries) {
    if (value === undefined) continue
    if (++count > MAX_ENTRIES) {
      plain['…'] = `more than ${MAX_ENTRIES} entries`
      break
    }
    plain[key] = isSecret(key) ? REDACTED : plainValue(value, depth + 1)
  }
  return plain
}

const plainObject = (value: object, depth: number): unknown => {
  if (depth > MAX_DEPTH) return '…'
  if (value instanceof Error) return plainError(value, depth)
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'invalid date' : value.toISOString()
  if (ArrayBuffer.isView(value)) return `<${value.byteLength} bytes>`
  if (Array.isArray(value)) return value.slice(0, MAX_ENTRIES).map((item) => plainValue(item, depth + 1))
  if (value instanceof Set) return [...value].slice(0, MAX_ENTRIES).map((item) => plainValue(item, depth + 1))
  if (value instanceof Map)
    return plainEntries(
      [...value].map(([key, item]) => [String(key), item] as [string, unknown]),
      depth,
    )
  return plainEntries(Object.entries(value), depth)
}

const plainValue = (value: unknown, depth: number): unknown => {
  switch (typeof value) {
    case 'string':
      return cut(value)
    case 'bigint':
      return value.toString()
    case 'number':
      return Number.isFinite(value) ? value : String(value)
    case 'function':
    case 'symbol':
      return String(value).slice(0, 80)
    case 'object':
      return value === null ? null : plainObject(value, depth)
    default:
      return value
  }
}

/**
 * Both sets of fields, the second over the first, as data that any format can print. Never throws: fields that cannot be
 * read are said to be unreadable.
 */
export const plainFields = (
  always: Record<string, unknown>,
  more?: Record<string, unknown>,
): Record<string, unknown> => {
  try {
    const plain = plainEntries(Object.entries({ ...always, ...more }), 0)
    for (const key of Object.keys(plain)) {
      if (!RESERVED.has(key)) continue
      plain[`${key}_`] = plain[key]
      delete plain[key]
    }
    return plain
  } catch {
    return { fields: 'unreadable' }
  }
}
