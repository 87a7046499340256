/**
 * A TOML file of the operator's, checked against a schema. What is wrong is said with file, key and value; keys that
 * nobody knows are warnings, because both dialects have always passed over them.
 */

import { readFileSync, statSync } from 'node:fs'
import { parse, TomlError } from 'smol-toml'
import type * as z from 'zod'
import { RuntimeError } from '#proto/errors.ts'

export interface TomlFile<T> {
  readonly data: T
  /** "file "…": key "…" is unknown". */
  readonly warnings: readonly string[]
}

const MAX_BYTES = 1024 * 1024

/** An error of the configuration: names the file and, where there is one, the key. */
export const badFile = (file: string, what: string, cause?: unknown): RuntimeError =>
  new RuntimeError('failed-precondition', `File "${file}": ${what}`, { cause })

/** @throws RuntimeError failed-precondition naming file, key and value; Node's error when the file cannot be read */
export const readTomlFile = <T extends z.ZodType>(file: string, schema: T): TomlFile<z.output<T>> => {
  if (statSync(file).size > MAX_BYTES) throw badFile(file, `is larger than ${MAX_BYTES} bytes`)
  return parseToml(readFileSync(file, 'utf8'), file, schema)
}

/** @throws RuntimeError failed-precondition naming file, key and value */
export const parseToml = <T extends z.ZodType>(text: string, file: string, schema: T): TomlFile<z.output<T>> => {
  const tree = parseText(text, file)
  const warnings: string[] = []
  for (;;) {
    const result = schema.safeParse(tree)
    if (result.success) return { data: result.data, warnings }
    const [issue] = result.error.issues
    if (issue === undefined) throw badFile(file, 'does not fit its format')
    if (issue.code !== 'unrecognized_keys')
      throw badFile(file, problemText(tree, { path: issue.path, message: reasonOf(issue) }))
    for (const key of issue.keys) {
      warnings.push(`File "${file}": key "${keyText([...issue.path, key])}" is unknown and has no effect`)
      remove(tree, [...issue.path, key])
    }
  }
}

const parseText = (text: string, file: string): unknown => {
  try {
    return parse(text)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    // The message alone: what follows it quotes the file, in which secrets can stand.
    const [what] = error.message.split('\n')
    throw badFile(file, `line ${error.line}, column ${error.column}: ${what}`, error)
  }
}

type Path = readonly PropertyKey[]

/** `registry[0].mirror[1].location`. */
const keyText = (path: Path): string =>
  path
    .map((part, index) => (typeof part === 'number' ? `[${part}]` : `${index > 0 ? '.' : ''}${quoted(part)}`))
    .join('')

const quoted = (part: PropertyKey): string =>
  /^[\w-]+$/.test(String(part)) ? String(part) : `'${withoutUser(String(part)).slice(0, 200)}'`

/** "https://user:password@host" must not be shown. */
const withoutUser = (text: string): string => text.replace(/\/\/.*@/, '//…@')

/** What is wrong with the name of a key lies one level deeper. */
const reasonOf = (issue: z.core.$ZodIssue): string =>
  (issue.code === 'invalid_key' ? issue.issues[0]?.message : undefined) ?? issue.message

const problemText = (tree: unknown, { path, message }: { path: Path; message: string }): string => {
  const value = valueAt(tree, path)
  // Values of headers are often secret.
  const shown = path.includes('header') ? '' : ` is ${withoutUser(JSON.stringify(value) ?? 'missing').slice(0, 120)}`
  return path.length === 0 ? message : `key "${keyText(path)}"${shown}: ${message}`
}

const valueAt = (tree: unknown, path: Path): unknown =>
  path.reduce<unknown>((node, part) => (isObject(node) ? Reflect.get(node, part) : undefined), tree)

const remove = (tree: unknown, path: Path): void => {
  const parent = valueAt(tree, path.slice(0, -1))
  const last = path.at(-1)
  if (isObject(parent) && last !== undefined) Reflect.deleteProperty(parent, last)
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null
