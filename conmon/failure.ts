/** Failures with a kind the daemon may act on; they travel as replies. */
import type { Failure, FailureKind } from '#proto/conmon.ts'

export class MonitorFailure extends Error {
  readonly kind: FailureKind

  constructor(kind: FailureKind, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'MonitorFailure'
    this.kind = kind
  }
}

/** What a reply says about an error. */
export function failureOf(error: unknown): Failure {
  if (error instanceof MonitorFailure) return { kind: error.kind, message: error.message }
  return { kind: 'internal', message: error instanceof Error ? error.message : String(error) }
}
