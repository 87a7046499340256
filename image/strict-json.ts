/**
 * JSON as the registry's documents must be: UTF-8 without byte order mark, no name twice in one object, no absurd depth.
 * JSON.parse alone would silently keep the last of two equal names, so that two readers of the same digest could see
 * two different images.
 */

import { RuntimeError } from '#proto/errors.ts'

const MAX_DEPTH = 64

/**
 * @param what names the document in errors: 'Manifest "sha256:…"'
 * @throws RuntimeError failed-precondition
 */
export const parseStrictJson = (bytes: Uint8Array, what: string): unknown => {
  const text = decode(bytes, what)
  const fault = findFault(text)
  if (fault !== undefined) throw new RuntimeError('failed-precondition', `${what} is not acceptable JSON: ${fault}`)
  try {
    return JSON.parse(text)
  } catch {
    // The engine's message quotes the document, which is hostile text.
    throw new RuntimeError('failed-precondition', `${what} is not JSON`)
  }
}

const decode = (bytes: Uint8Array, what: string): string => {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    throw new RuntimeError('failed-precondition', `${what} is not UTF-8`, { cause })
  }
}

/** Depth and duplicate names only: text that is no JSON passes here and fails in JSON.parse. */
const findFault = (text: string): string | undefined => {
  // The names seen so far in every open object; nothing for an open array.
  const open: (Set<string> | undefined)[] = []
  for (let at = 0; at < text.length; at++) {
    const c = text[at]
    if (c === '{') open.push(new Set())
    else if (c === '[') open.push(undefined)
    else if (c === '}' || c === ']') open.pop()
    if (open.length > MAX_DEPTH) return `it is nested deeper than ${MAX_DEPTH}`
    if (c === '"') {
      const end = endOfString(text, at)
      const twice = isBeforeColon(text, end) ? noteName(open.at(-1), nameOf(text.slice(at, end + 1))) : undefined
      if (twice !== undefined) return `it has the name ${JSON.stringify(twice.slice(0, 40))} twice in one object`
      at = end
    }
  }
  return undefined
}

/** The name if it was there before. */
const noteName = (seen: Set<string> | undefined, name: string): string | undefined => {
  if (seen?.has(name)) return name
  seen?.add(name)
  return undefined
}

/** Where the string that begins at `start` has its closing quote. */
const endOfString = (text: string, start: number): number => {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === '\\') at++
    else if (text[at] === '"') return at
  }
  return text.length
}

const isBeforeColon = (text: string, end: number): boolean => {
  let at = end + 1
  while (at < text.length && (text[at] === ' ' || text[at] === '\n' || text[at] === '\t' || text[at] === '\r')) at++
  return text[at] === ':'
}

/** The name itself, with \\u escapes undone: two spellings of one name are one name. */
const nameOf = (token: string): string => {
  try {
    return String(JSON.parse(token))
  } catch {
    return token
  }
}
