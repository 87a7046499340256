/** One YAML configuration file: its content as plain data, and in which line a key stands. */
import { readFileSync, statSync } from 'node:fs'
import { isMap, isScalar, isSeq, LineCounter, type ParsedNode, parseDocument } from 'yaml'
import { messageOf } from '#proto/errors.ts'
import { type KeyPath, type Problem, valueText } from './problems.ts'

/** Far above any real configuration; keeps a wrong path (a disk image, a log) from being read into memory. */
const MAX_FILE_BYTES = 1024 * 1024

export interface YamlFile {
  file: string
  data: Record<string, unknown>
  /** `file:line` of the key at this path, or of the nearest key around it. */
  place(path: KeyPath): string
  /** Whether this file sets the key. */
  has(path: KeyPath): boolean
}

export type YamlRead = { ok: true; value: YamlFile } | { ok: false; problems: Problem[] }

const failed = (where: string, what: string): YamlRead => ({ ok: false, problems: [{ where, what }] })

const readText = (file: string): string => {
  const { size } = statSync(file)
  if (size > MAX_FILE_BYTES) throw new Error(`it has ${size} bytes, ${MAX_FILE_BYTES} are the most`)
  return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file))
}

interface Step {
  node: ParsedNode | null
  offset: number
}

/** One step down from `node`: the child, and where its key (or the child itself, in a list) begins. */
const stepInto = (node: ParsedNode | null, key: string | number): Step | undefined => {
  if (isMap(node)) {
    const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(key))
    return pair === undefined ? undefined : { node: pair.value, offset: pair.key.range[0] }
  }
  if (isSeq(node) && typeof key === 'number') {
    const child = node.items[key]
    return child === undefined ? undefined : { node: child as ParsedNode, offset: (child as ParsedNode).range[0] }
  }
  return undefined
}

const walk = (root: ParsedNode, path: KeyPath): { offset: number; found: boolean } => {
  let at: Step = { node: root, offset: root.range[0] }
  for (const key of path) {
    const next = stepInto(at.node, key)
    if (next === undefined) return { offset: at.offset, found: false }
    at = next
  }
  return { offset: at.offset, found: true }
}

const syntaxText = (code: string, message: string): string => {
  if (code === 'TAB_AS_INDENT') return 'has a tab in the indentation; YAML allows only spaces there'
  if (code === 'DUPLICATE_KEY') return 'sets the same key twice in one mapping'
  return `is not valid YAML: ${message.replace(/\.$/, '')}`
}

const parse = (file: string, text: string): YamlRead => {
  if (text.trim() === '') return failed(file, 'is empty: remove the file, or write at least a comment into it')
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true, version: '1.2' })
  const lineAt = (offset: number): string => `${file}:${lines.linePos(offset).line}`
  const complaints = [...document.errors, ...document.warnings]
  if (complaints.length > 0) {
    const problems = complaints.map(({ pos, code, message }) => ({
      where: lineAt(pos[0]),
      what: syntaxText(code, message),
    }))
    return { ok: false, problems }
  }
  const root = document.contents
  const value = {
    file,
    data: {},
    place: (path: KeyPath) => (root === null ? file : lineAt(walk(root, path).offset)),
    has: (path: KeyPath) => root !== null && walk(root, path).found,
  }
  if (root === null || (isScalar(root) && root.value === null)) return { ok: true, value }
  if (!isMap(root)) {
    return failed(
      lineAt(root.range[0]),
      `must hold a mapping of keys, not ${valueText(document.toJS({ maxAliasCount: 20 }))}`,
    )
  }
  return { ok: true, value: { ...value, data: document.toJS({ maxAliasCount: 20 }) as Record<string, unknown> } }
}

/**
 * Reads one file. A file with nothing but comments is an empty mapping; a file with nothing at all is a problem, for it
 * is what a write that was cut short leaves behind.
 * @throws whatever the file system says when the file cannot be opened, so that the caller decides about absence
 */
export const readYamlFile = (file: string): YamlRead => {
  const text = readText(file)
  try {
    return parse(file, text)
  } catch (error) {
    return failed(file, `is not valid YAML: ${messageOf(error)}`)
  }
}
