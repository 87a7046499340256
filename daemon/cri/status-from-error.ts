/** The one map from what went wrong to what the caller is told. */
import { randomUUID } from 'node:crypto'
import { status } from '@grpc/grpc-js'
import { isErrno } from '#linux/errno.ts'
import { type ErrorKind, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'

/**
 * The sentinels are UNKNOWN on purpose: only then does the kubelet's client show it the bare message, whose first word it
 * compares (cri-api, pkg/errors).
 */
const codes = {
  'invalid-argument': status.INVALID_ARGUMENT,
  'not-found': status.NOT_FOUND,
  'already-exists': status.ALREADY_EXISTS,
  'failed-precondition': status.FAILED_PRECONDITION,
  'resource-exhausted': status.RESOURCE_EXHAUSTED,
  'permission-denied': status.PERMISSION_DENIED,
  'deadline-exceeded': status.DEADLINE_EXCEEDED,
  cancelled: status.CANCELLED,
  unavailable: status.UNAVAILABLE,
  unimplemented: status.UNIMPLEMENTED,
  internal: status.INTERNAL,
  'registry-unavailable': status.UNKNOWN,
  'signature-validation-failed': status.UNKNOWN,
  'rro-unsupported': status.UNKNOWN,
  'image-volume-mount-failed': status.UNKNOWN,
} satisfies Record<ErrorKind, status>

const sentinels: Partial<Record<ErrorKind, string>> = {
  'registry-unavailable': 'RegistryUnavailable',
  'signature-validation-failed': 'SignatureValidationFailed',
  'rro-unsupported': 'RROUnsupported',
  'image-volume-mount-failed': 'ImageVolumeMountFailed',
}

/** The host is out of descriptors, processes, memory or room on a disk: nothing is wrong with us or with the request. */
const scarcities = ['EMFILE', 'ENFILE', 'EAGAIN', 'ENOMEM', 'ENOSPC', 'EDQUOT'] as const

/** The kernel has made a disk read-only, or cannot read it. */
const brokenDisk = ['EROFS', 'EIO'] as const

export interface GrpcStatus {
  readonly code: status
  readonly details: string
}

/**
 * What the caller is told. An error without a kind is a defect: the caller gets an id, the log the rest. (grpc-js would take
 * any integer `code` for a status: a helper's exit code 5 would tell the kubelet NOT_FOUND.)
 */
export function statusFromError(error: unknown, rpc: string, log: Log): GrpcStatus {
  if (error instanceof RuntimeError) return { code: codes[error.kind], details: withSentinel(error) }
  if (isErrno(error, ...scarcities))
    return {
      code: status.RESOURCE_EXHAUSTED,
      details: `${rpc} failed for want of a resource of the node: ${error.message}`,
    }
  if (isErrno(error, ...brokenDisk)) {
    log.error(`${rpc} failed by a fault of the host`, { error })
    return { code: status.UNAVAILABLE, details: `${rpc} failed by a fault of the node: ${error.message}` }
  }
  const id = randomUUID()
  log.error(`${rpc} failed by a defect or a fault of the host`, { error, id })
  const message = error instanceof Error ? error.message : 'unknown error'
  return { code: status.INTERNAL, details: `${rpc} failed: ${message} (error ${id} in the log of cricket)` }
}

function withSentinel({ kind, message }: RuntimeError): string {
  const sentinel = sentinels[kind]
  return sentinel === undefined || message.slice(0, sentinel.length + 1) === `${sentinel}:`
    ? message
    : `${sentinel}: ${message}`
}
