/**
 * What the client is told at the end of a session, on its error channel: since version 4 a metav1.Status as JSON, before that
 * a sentence, or nothing when all went well.
 */
import { type ErrorKind, RuntimeError } from '#proto/errors.ts'

/** How a session ended: like a process, well, or by a failure. */
export type SessionEnd = { how: 'exited'; code: number } | { how: 'failed'; error: unknown }

/** `sentence` up to version 3, `json` from version 4 on. */
export type StatusStyle = 'sentence' | 'json'

/** Reasons and codes of metav1.Status; kinds without one are the daemon's own trouble. */
const REASONS: Partial<Record<ErrorKind, readonly [reason: string, code: number]>> = {
  'invalid-argument': ['BadRequest', 400],
  'permission-denied': ['Forbidden', 403],
  'not-found': ['NotFound', 404],
  'already-exists': ['AlreadyExists', 409],
  'failed-precondition': ['Conflict', 409],
  'resource-exhausted': ['TooManyRequests', 429],
  unavailable: ['ServiceUnavailable', 503],
  'deadline-exceeded': ['Timeout', 504],
}

/** What a client may read of an error: messages of RuntimeErrors are made for it, others may name anything. */
export const publicMessage = (error: unknown): string =>
  error instanceof RuntimeError ? error.message : "Internal error; the runtime's log has it"

/** Clients read the code as eight bits, and take anything else for a broken protocol. */
const clientCode = (code: number): number => (Number.isInteger(code) && code >= 0 && code <= 255 ? code : 255)

const failed = (error: unknown) => {
  const [reason, code] = (error instanceof RuntimeError ? REASONS[error.kind] : undefined) ?? ['InternalError', 500]
  return { metadata: {}, status: 'Failure', message: publicMessage(error), reason, code }
}

const exitedWith = (code: number) => ({
  metadata: {},
  status: 'Failure',
  message: `command terminated with non-zero exit code: ${code}`,
  reason: 'NonZeroExitCode',
  details: { causes: [{ reason: 'ExitCode', message: String(code) }] },
})

/** The text for the error channel; empty when there is nothing to say. */
export const statusText = (end: SessionEnd, style: StatusStyle): string => {
  if (end.how === 'exited' && end.code === 0)
    return style === 'json' ? JSON.stringify({ metadata: {}, status: 'Success' }) : ''
  const status = end.how === 'exited' ? exitedWith(clientCode(end.code)) : failed(end.error)
  return style === 'json' ? JSON.stringify(status) : status.message
}
