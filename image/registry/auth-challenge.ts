/**
 * Parser of WWW-Authenticate (RFC 9110 §11.6.1). Strict, because what it reads decides where credentials go: a header
 * that is not exactly right yields nothing.
 */

export interface AuthChallenge {
  /** Lower case: "bearer", "basic". */
  readonly scheme: string
  /** Names in lower case. */
  readonly parameters: ReadonlyMap<string, string>
}

const MAX_HEADER = 8192
const TOKEN = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y
const TOKEN68 = /[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))/y
const QUOTED = /"((?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*)"/y
const EQUALS = /[ \t]*=[ \t]*/y
const COMMAS = /[ \t]*(?:,[ \t]*)+/y
const SPACES = / +/y
const END = /[ \t]*$/y

/** All challenges in order; empty when the header is malformed or too long. */
export const parseChallenges = (header: string | undefined): AuthChallenge[] => {
  if (header === undefined || header.length > MAX_HEADER) return []
  const cursor = new Cursor(header)
  const challenges: AuthChallenge[] = []
  cursor.take(COMMAS)
  while (cursor.take(END) === undefined) {
    const scheme = cursor.take(TOKEN)
    if (scheme === undefined) return []
    const parameters = readParameters(cursor)
    if (parameters === undefined) return []
    challenges.push({ scheme: scheme.toLowerCase(), parameters })
    if (cursor.take(COMMAS) === undefined && cursor.take(END) === undefined) return []
  }
  return challenges
}

/** undefined: malformed, or a parameter given twice. */
const readParameters = (cursor: Cursor): Map<string, string> | undefined => {
  const parameters = new Map<string, string>()
  if (cursor.take(SPACES) === undefined) return parameters
  // "Negotiate abc==" carries one token in place of parameters.
  if (cursor.take(TOKEN68) !== undefined) return parameters
  for (;;) {
    const name = cursor.take(TOKEN)?.toLowerCase()
    if (name === undefined || cursor.take(EQUALS) === undefined) return undefined
    const value = cursor.takeQuoted() ?? cursor.take(TOKEN)
    if (value === undefined || parameters.has(name)) return undefined
    parameters.set(name, value)
    const comma = cursor.at
    if (cursor.take(COMMAS) === undefined) return parameters
    if (!cursor.seesParameter()) {
      cursor.at = comma
      return parameters
    }
  }
}

class Cursor {
  at = 0
  readonly #text: string

  constructor(text: string) {
    this.#text = text
  }

  /** What the sticky pattern matches here (may be empty), or undefined. */
  take(pattern: RegExp): string | undefined {
    return this.#match(pattern)?.[0]
  }

  takeQuoted(): string | undefined {
    return this.#match(QUOTED)?.[1]?.replace(/\\(.)/g, '$1')
  }

  /** Whether a name and an equals sign follow, as opposed to the next scheme. */
  seesParameter(): boolean {
    const start = this.at
    const found = this.take(TOKEN) !== undefined && this.take(EQUALS) !== undefined
    this.at = start
    return found
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.at
    const found = pattern.exec(this.#text)
    if (found === null) return undefined
    this.at = pattern.lastIndex
    return found
  }
}
