/**
 * The words for what went wrong, shared by every part. A kind is what the caller may act on; the cause is for the log.
 * `daemon/cri/status-from-error.ts` maps kinds to gRPC codes, once.
 */

/**
 * Kinds mirror gRPC's canonical codes, plus the sentinels that the kubelet recognises by message prefix
 * (cri-api/pkg/errors): those are sent as UNKNOWN with the sentinel as first word.
 */
export type ErrorKind =
  | 'invalid-argument'
  | 'not-found'
  | 'already-exists'
  | 'failed-precondition'
  | 'resource-exhausted'
  | 'permission-denied'
  | 'deadline-exceeded'
  | 'cancelled'
  | 'unavailable'
  | 'unimplemented'
  | 'internal'
  | 'registry-unavailable'
  | 'signature-validation-failed'
  | 'rro-unsupported'
  | 'image-volume-mount-failed'

/**
 * An error whose kind the caller may see. Only the kind of the error that is thrown counts, never one in its cause
 * chain: a not-found deep inside must not tell the kubelet that its container is gone.
 */
export class RuntimeError extends Error {
  readonly kind: ErrorKind

  constructor(kind: ErrorKind, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'RuntimeError'
    this.kind = kind
  }
}

/** Whether `error` is a RuntimeError of this kind. */
export const isKind = (error: unknown, kind: ErrorKind): error is RuntimeError =>
  error instanceof RuntimeError && error.kind === kind

/** The message of anything that was thrown. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
