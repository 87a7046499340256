/**
 * What can go wrong at a registry, in the words of RuntimeError. Only origin, path, status and the registry's own error
 * codes are ever named: queries can be presigned and bodies can echo what we sent.
 */

import { type ErrorKind, messageOf, RuntimeError } from '#proto/errors.ts'

/** A try that failed in a way that may be different next time. */
export class PassingFailure extends Error {
  /** What the other side asked us to wait, if it did. */
  readonly retryAfterMs: number | undefined

  constructor(message: string, { cause, retryAfterMs }: { cause?: unknown; retryAfterMs?: number | undefined } = {}) {
    super(message, { cause })
    this.name = 'PassingFailure'
    this.retryAfterMs = retryAfterMs
  }
}

/** The answer is another part than the one that was asked for: this server is better asked for the whole. */
export class NotThatRange extends RuntimeError {
  constructor(message: string) {
    super('failed-precondition', message)
  }
}

/** The kubelet recognises this failure by the first word. */
export const unavailable = (message: string, cause?: unknown): RuntimeError =>
  new RuntimeError('registry-unavailable', `RegistryUnavailable: ${message}`, { cause })

/** The address without what may be secret: no user, no query, no fragment, bounded. */
export const printable = (url: URL): string => `${url.protocol}//${url.host}${url.pathname}`.slice(0, 300)

const CODE = /^[A-Z][A-Z0-9_]{1,39}$/

/** The codes of a registry's error document ("MANIFEST_UNKNOWN"), nothing else of it. */
export const errorCodes = (body: Uint8Array): string[] => {
  try {
    const json: unknown = JSON.parse(Buffer.from(body).toString('utf8'))
    if (!hasErrors(json)) return []
    return json.errors
      .map((entry) => (typeof entry === 'object' && entry !== null && 'code' in entry ? String(entry.code) : ''))
      .filter((code) => CODE.test(code))
      .slice(0, 5)
  } catch {
    return []
  }
}

const hasErrors = (json: unknown): json is { errors: unknown[] } =>
  typeof json === 'object' && json !== null && 'errors' in json && Array.isArray(json.errors)

/** Whether asking again can help: too many requests, and every failure on the other side but "not implemented". */
export const isPassingStatus = (status: number): boolean =>
  status === 408 || status === 429 || (status >= 500 && status !== 501 && status !== 505)

/** An answer that no further try will change. */
export const refusal = (status: number, codes: readonly string[], what: string): RuntimeError => {
  const said = `${status}${codes.length > 0 ? ` ${codes.join(' ')}` : ''}`
  const kinds: Record<number, { kind: ErrorKind; text: string }> = {
    401: { kind: 'permission-denied', text: `Registry wants other credentials for ${what}: ${said}` },
    403: { kind: 'permission-denied', text: `Registry denies access to ${what}: ${said}` },
    404: { kind: 'not-found', text: `Registry does not have ${what}: ${said}` },
  }
  const known = kinds[status]
  return known ? new RuntimeError(known.kind, known.text) : unavailable(`unexpected answer for ${what}: ${said}`)
}

const PASSING_CODES = new Set([
  'ECONNRESET',
  'ECONNREFUSED',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'EAI_AGAIN',
  'ENETUNREACH',
  'EHOSTUNREACH',
  'ERR_STREAM_PREMATURE_CLOSE',
])

/** The errno-like code of anything thrown. */
export const codeOf = (error: unknown): string | undefined =>
  typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined

const NO_TLS_CODES = new Set(['EPROTO', 'ECONNREFUSED', 'ECONNRESET'])

/** Whether this came from a server that does not speak TLS where it was asked: what else it said decides nothing. */
export const speaksNoTls = (error: unknown): boolean => {
  for (let each = error, depth = 0; each instanceof Error && depth < 5; each = each.cause, depth++) {
    const code = codeOf(each)
    if (code !== undefined && (NO_TLS_CODES.has(code) || code.startsWith('ERR_SSL_'))) return true
  }
  return false
}

/**
 * Sorts what a try threw: RuntimeErrors are final, broken connections pass, everything else of the network (unknown
 * host, bad certificate, not HTTP) is final too.
 */
export const sortFailure = (error: unknown, what: string): RuntimeError | PassingFailure => {
  if (error instanceof RuntimeError || error instanceof PassingFailure) return error
  const code = codeOf(error)
  const message = `${what}: ${code ?? messageOf(error)}`
  return code !== undefined && PASSING_CODES.has(code)
    ? new PassingFailure(message, { cause: error })
    : unavailable(message, error)
}
